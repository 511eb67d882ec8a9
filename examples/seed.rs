//! For users of the Python class with the same name: each of its calls, and below it the call that replaces it.

use std::error::Error;

use batch_executor::{BatchExecutor, RateLimit, Workers};

/// Stands for a request. It fails for a user that does not exist.
fn fetch(user: &str) -> Result<usize, String> {
    if user == "unknown" { Err("no such user".to_owned()) } else { Ok(user.len()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let users = ["ada", "grace", "barbara"];
    let mixed = ["ada", "unknown", "grace", "unknown"];
    // tasks = [lambda user=user: fetch(user) for user in users]
    let task = |user| move || fetch(user);
    let tasks = users.map(task);

    // value = BatchExecutor().execute(tasks[0])
    let value = BatchExecutor::new().execute(tasks[0])?;
    println!("one task: {value}");

    // result = BatchExecutor().execute_batch(tasks, users)
    let result = BatchExecutor::new().execute_batch(tasks, users)?;
    println!("one after another: {:?}", result.values().collect::<Vec<_>>());

    // result = BatchExecutor(max_workers=3).execute_batch(tasks, users)
    let three = BatchExecutor::builder().workers(3).build()?;
    let result = three.execute_batch(tasks, users)?;
    println!("three at once: {:?}", result.values().collect::<Vec<_>>());

    // Where tasks differ only in the id, one function replaces them:
    let result = three.run(users, |user| fetch(user));
    println!("a function: {:?}", result.values().collect::<Vec<_>>());

    // result = executor.execute_batch(tasks, users, on_progress=show)
    let show = three.batch(users).on_progress(|p| println!("progress: {} of {}", p.completed, p.total));
    println!("with progress: {}", show.run_tasks(tasks).into_result()?);

    // try: BatchExecutor().execute_batch(tasks, mixed)
    // except Exception as error: print(error)
    match BatchExecutor::new().execute_batch(mixed.map(task), mixed) {
        Ok(result) => println!("{result}"),
        Err(error) => println!("the first error stops: {error}"),
    }

    // result = BatchExecutor(stop_on_error=False).execute_batch(tasks, mixed)
    let collecting = BatchExecutor::builder().stop_on_error(false).build()?;
    let result = collecting.execute_batch(mixed.map(task), mixed)?;
    println!("all errors: {result}");
    for failure in result.failures() {
        println!("  {}: {}", failure.item, failure.error);
    }

    // result = BatchExecutor(max_workers="auto").execute_batch(tasks, users)
    let auto = BatchExecutor::builder().workers(Workers::auto()).build()?;
    println!("auto, with {} workers for 2: {}", auto.workers_for(2), auto.execute_batch(tasks, users)?);

    // result = BatchExecutor(rate_limiter=limiter).execute_batch(tasks, users)
    let limited = BatchExecutor::builder().rate_limiter(RateLimit::per_second(100)).build()?;
    println!("100 a second: {}", limited.execute_batch(tasks, users)?);

    // BatchExecutor().execute_batch(tasks, users[:2])        # raises
    match BatchExecutor::new().execute_batch(tasks, &users[..2]) {
        Ok(result) => println!("{result}"),
        Err(error) => println!("lengths that differ: {error}"),
    }
    Ok(())
}
