#!/usr/bin/env python3
"""Which promises Python's ThreadPoolExecutor keeps: the questions of src/bin/promises, each answered by a run.

Two ordinary ways of use: `map`, and `submit` with `as_completed`. Prints a Markdown table. Standard library only.
"""

import itertools
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed

# Nothing here takes a tenth of this, unless it hangs.
PATIENCE_S = 5


def by_map(workers, items, op):
    """`map`: values in order; the first exception ends the loop, and what lies behind it is gone."""
    values = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for value in pool.map(op, items):
                values.append(value)
        except Exception as error:
            return values, [error]
    return values, []


def by_submit(workers, items, op):
    """`submit` and `as_completed`, a future for each item: values and exceptions, in the order of completion."""
    values, errors = [], []
    with ThreadPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(op, item) for item in items]):
            if future.exception() is None:
                values.append(future.result())
            else:
                errors.append(future.exception())
    return values, errors


def submit_until_error(workers, items, op):
    """`submit` and `as_completed`, left at the first exception; nothing is cancelled unless one does it by hand."""
    values = []
    with ThreadPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(op, item) for item in items]):
            if future.exception() is not None:
                return values, [future.exception()]
            values.append(future.result())
    return values, []


def input_order(collect, _stop):
    """16 items on 4 workers, earlier ones slower: the values are compared with the items, place by place."""

    def earlier_is_slower(item):
        time.sleep((16 - item) / 1000)
        return item

    return collect(4, range(16), earlier_is_slower)[0] == list(range(16))


def every_outcome(collect, _stop):
    """10 items on 2 workers, every other one raises: five values and five exceptions are there."""

    def fails(item):
        if item % 2:
            raise ValueError(item)
        return item

    values, errors = collect(2, range(10), fails)
    return sorted(values) == [0, 2, 4, 6, 8] and sorted(e.args[0] for e in errors) == [1, 3, 5, 7, 9]


def exception_leaves_others(collect, _stop):
    """10 items on 2 workers, the fifth raises what nobody foresaw: the nine values are there."""
    values, _ = collect(2, range(10), lambda item: 1 // (item - 4))
    return len(values) == 9


def exception_is_an_outcome(collect, _stop):
    """The same batch: the exception of the fifth is there, with its message."""
    _, errors = collect(2, range(10), lambda item: 1 // (item - 4))
    return [type(error) for error in errors] == [ZeroDivisionError] and str(errors[0]) != ""


def lowest_error(_collect, stop):
    """16 items on 1, 2, 4 and 8 workers; the fourth fails slowly, all from the sixth on at once: it is the fourth's."""

    def fails(item):
        if item == 3:
            time.sleep(0.05)
        if item == 3 or item >= 5:
            raise ValueError(item)
        return item

    return all(stop(workers, range(16), fails)[1][0].args == (3,) for workers in (1, 2, 4, 8))


def stopped_keeps(_collect, stop):
    """8 items on 2 workers; the first fails slowly, the second is done long before: the second's value is in hand."""

    def first_fails(item):
        if item == 0:
            time.sleep(0.1)
            raise ValueError(item)
        return item

    return 1 in stop(2, range(8), first_fails)[0]


def stopped_starts_nothing(_collect, stop):
    """300 items of 1 ms on 2 workers, the sixth fails: most have never started when the pool is left."""
    started = []

    def sixth_fails(item):
        started.append(item)
        time.sleep(0.001)
        if item == 5:
            raise ValueError(item)

    stop(2, range(300), sixth_fails)
    return len(started) < 150


def limit_holds(collect, _stop):
    """60 items of 2 ms on 3 workers, counted while they run: never more than three."""
    lock, running, most = threading.Lock(), 0, 0

    def counted(item):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return item

    return len(collect(3, range(60), counted)[0]) == 60 and most <= 3


def nested(how):
    """2 items on 2 workers, each running a batch of 4 on the same pool once both have started. Hangs or returns."""
    pool, all_started = ThreadPoolExecutor(2), threading.Barrier(2)

    def inner(_):
        all_started.wait()
        if how == "map":
            return len(list(pool.map(abs, range(4))))
        return len([future.result() for future in [pool.submit(abs, item) for item in range(4)]])

    if sum(pool.map(inner, range(2))) != 8:
        sys.exit(1)


def nested_finishes(collect, _stop):
    """`nested` in a process of its own, which is ended if it hangs."""
    how = "map" if collect is by_map else "submit"
    try:
        return subprocess.run([sys.executable, __file__, how], timeout=PATIENCE_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return "✗ hangs"


def cancels(collect, _stop):
    """300 items of 2 ms on 2 workers, `shutdown(cancel_futures=True)` after 20 ms: most have never started."""
    pool, started = ThreadPoolExecutor(2), []

    def item(number):
        started.append(number)
        time.sleep(0.002)

    def batch():
        how = pool.map(item, range(300)) if collect is by_map else as_completed([pool.submit(item, n) for n in range(300)])
        threading.Timer(0.02, lambda: pool.shutdown(wait=False, cancel_futures=True)).start()
        try:
            list(how)
        except CancelledError:
            pass

    caller = threading.Thread(target=batch, daemon=True)
    caller.start()
    caller.join(PATIENCE_S)
    return "✗ hangs" if caller.is_alive() else len(started) < 150


def endless(collect, _stop):
    """100 outcomes of an input of 10,000, in order, while not many more items than that were read."""
    if collect is not by_map:
        return "✗ has none"
    read = []

    def items():
        for item in range(10_000):
            read.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        first = list(itertools.islice(pool.map(abs, items()), 100))
    return first == list(range(100)) and len(read) < 200


def bare(collect, _stop):
    """A batch of three, from ordinary code, with nothing set up."""
    return sorted(collect(2, range(3), abs)[0]) == [0, 1, 2]


def has_none(_collect, _stop):
    """There is nothing of the kind in it: this verdict comes from its documentation."""
    return "✗ has none"


CHECKS = [
    ("outcomes come in input order", input_order),
    ("every outcome is kept although some fail", every_outcome),
    ("an exception in one item leaves the others' results", exception_leaves_others),
    ("an exception is an outcome with its message", exception_is_an_outcome),
    ("the error of a stopped batch is the lowest, for any number of workers", lowest_error),
    ("a stopped batch keeps what had finished", stopped_keeps),
    ("a stopped batch starts nothing more", stopped_starts_nothing),
    ("never more at once than workers", limit_holds),
    ("a batch inside an item finishes although every worker is busy", nested_finishes),
    ("reports progress", has_none),
    ("limits the rate", has_none),
    ("tries again after a back-off that holds no worker", has_none),
    ("a cancel from another thread ends the batch", cancels),
    ("outcomes of an endless input, in order, while it is read no further than a window", endless),
    ("a run that died is gone on with, by what was recorded of it", has_none),
    ("tells afterwards when each item ran, and on which worker", has_none),
    ("works from ordinary code, with nothing set up", bare),
]

COLUMNS = [("`ThreadPoolExecutor.map`", by_map, by_map), ("`submit`, `as_completed`", by_submit, submit_until_error)]


def mark(verdict):
    return verdict if isinstance(verdict, str) else "✓" if verdict else "✗"


def main():
    print("| promise | " + " | ".join(name for name, _, _ in COLUMNS) + " |")
    print("|---|" + ":-:|" * len(COLUMNS))
    for promise, check in CHECKS:
        cells = [mark(check(collect, stop)) for _, collect, stop in COLUMNS]
        print(f"| {promise} | " + " | ".join(cells) + " |")
    print(f"\nPython {sys.version.split()[0]}. Every cell comes from a run, except where there is none to run.")


if __name__ == "__main__":
    nested(sys.argv[1]) if sys.argv[1:] else main()
