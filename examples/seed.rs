//! For those who come from the Python class of the same name: its calls, and below each the one that takes its place.

use std::error::Error;

use batch_executor::{BatchError, BatchExecutor, RateLimit, Workers};

/// Something to run: it fails for one of the users.
fn fetch(user: &str) -> Result<usize, String> {
    if user == "nobody" { Err("no such user".to_owned()) } else { Ok(user.len()) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let users = ["ada", "grace", "barbara"];
    let mixed = ["ada", "nobody", "grace", "nobody"];
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

    // Where the tasks differ in nothing but the id, one function takes their place:
    let result = three.run(users, |user| fetch(user))?;
    println!("a function: {:?}", result.values().collect::<Vec<_>>());

    // result = executor.execute_batch(tasks, users, on_progress=show)
    let show = three.batch(users).on_progress(|p| println!("progress: {} of {}", p.completed, p.total));
    println!("with progress: {}", show.run_tasks(tasks)?);

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
    for item in result.failures() {
        if let Some(error) = item.error() {
            println!("  {}: {error}", item.id);
        }
    }

    // result = BatchExecutor(max_workers="auto").execute_batch(tasks, users)
    let auto = BatchExecutor::builder().workers(Workers::auto()).build()?;
    println!("auto, with {} workers for 2: {}", auto.workers_for(2), auto.execute_batch(tasks, users)?);

    // result = BatchExecutor(rate_limiter=limiter).execute_batch(tasks, users)
    let limited = BatchExecutor::builder().rate_limiter(RateLimit::per_second(100)).build()?;
    println!("100 a second: {}", limited.execute_batch(tasks, users)?);

    // BatchExecutor().execute_batch(tasks, users[:2])        # raises
    match BatchExecutor::new().execute_batch(tasks, &users[..2]) {
        Err(error @ BatchError::LengthMismatch { .. }) => println!("lengths that differ: {error}"),
        outcome => println!("{outcome:?}"),
    }
    Ok(())
}
