import threading
import time

import pytest

from mmvis_plugin.video import Prefetcher, Worker


def threads():
    return [t for t in threading.enumerate() if t.name in ("prefetch", "worker")]


def flat(batches):
    return [item for batch in batches for item in batch]


@pytest.mark.parametrize("size, batch", [(1, 1), (3, 2), (100, 100)])
def test_items_come_in_order_in_batches_of_bounded_size(size, batch):
    prefetcher = Prefetcher((i for i in range(20)), size)
    batches = list(prefetcher.batches(batch))
    assert flat(batches) == list(range(20))
    assert all(1 <= len(b) <= batch for b in batches)
    prefetcher.close()
    assert not threads()


def test_no_item_no_batch():
    prefetcher = Prefetcher((i for i in ()), 1)
    assert list(prefetcher.batches(4)) == []


def test_batches_take_what_is_ready_and_wait_for_nothing():
    gate = threading.Event()

    def items():
        yield from range(3)
        gate.wait(5)
        yield 3

    prefetcher = Prefetcher(items(), 8)
    time.sleep(0.2)
    batches = prefetcher.batches(8)
    assert next(batches) == [0, 1, 2]
    gate.set()
    assert next(batches) == [3]
    assert next(batches, None) is None


def test_the_fetching_thread_is_a_bounded_number_of_items_ahead():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    prefetcher = Prefetcher(items(), 4)
    batches = prefetcher.batches(1)
    for number in range(10):
        assert next(batches) == [number]
        time.sleep(0.01)
        assert len(made) <= number + 1 + 4 + 1  # taken, in the queue, in the thread's hands
    prefetcher.close()


def test_error_comes_after_the_items_before_it():
    def items():
        yield from range(5)
        raise KeyError("frame 5")

    prefetcher = Prefetcher(items(), 8)
    seen = []
    with pytest.raises(KeyError, match="frame 5"):
        for batch in prefetcher.batches(2):
            seen += batch
    assert seen == list(range(5))


def test_close_ends_the_generator_in_its_own_thread():
    closed_in = []

    def items():
        try:
            while True:
                yield 0
        finally:
            closed_in.append(threading.current_thread().name)

    prefetcher = Prefetcher(items(), 2)
    next(prefetcher.batches(1))
    prefetcher.close()
    assert closed_in == ["prefetch"] and not threads()


def test_closed_by_its_own_thread():
    """As when the collector finds a stream that was let go while the thread runs."""
    let_go, closed = threading.Event(), threading.Event()

    def items():
        let_go.wait(5)
        prefetcher.close()
        closed.set()
        yield 0

    prefetcher = Prefetcher(items(), 2)
    let_go.set()
    assert closed.wait(5)
    prefetcher.close()
    assert not threads()


def test_stop_wakes_a_consumer_whose_source_hangs():
    gate = threading.Event()

    def items():
        yield 0
        gate.wait(20)

    prefetcher = Prefetcher(items(), 2)
    batches = prefetcher.batches(1)
    assert next(batches) == [0]
    threading.Timer(0.2, prefetcher.stop).start()
    start = time.perf_counter()
    assert next(batches, None) is None
    assert time.perf_counter() - start < 5
    gate.set()
    prefetcher.close()


def test_worker_takes_items_in_order_beside_the_caller():
    seen = []

    def slow(item):
        time.sleep(0.01)
        seen.append((item, threading.current_thread().name))

    worker = Worker(slow, 3, "worker")
    for item in range(10):
        worker.put(item)
        assert item - len(seen) <= 3 + 2
    worker.close()
    assert seen == [(item, "worker") for item in range(10)]
    assert not threads()


def test_error_of_the_worker_reaches_the_caller():
    done = []

    def function(item):
        if item == 2:
            raise OSError("disk full")
        done.append(item)

    worker = Worker(function, 2, "worker")
    with pytest.raises(OSError, match="disk full"):
        for item in range(1000):
            worker.put(item)
            time.sleep(0.005)
    with pytest.raises(OSError, match="disk full"):
        worker.close()
    assert done == [0, 1] and not threads()


def test_error_in_the_last_item_comes_with_close():
    worker = Worker(lambda item: 1 / item, 8, "worker")
    worker.put(1)
    worker.put(0)
    with pytest.raises(ZeroDivisionError):
        worker.close()


def test_interrupted_close_drops_what_waits_and_still_ends_the_thread(monkeypatch):
    done = []

    def slow(item):
        time.sleep(0.1)
        done.append(item)

    worker = Worker(slow, 8, "worker")
    for item in range(8):
        worker.put(item)
    join = worker._thread.join

    def interrupted():
        monkeypatch.setattr(worker._thread, "join", join)
        raise KeyboardInterrupt

    monkeypatch.setattr(worker._thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.close()
    assert len(done) < 8 and not threads()
