"""What many, slow and interrupted drivers on other hosts do to an agent (N08, N11, N13)."""

import signal

from support import processes
from support.agent_hosts import Cluster
from support.rounds import rounds
from support.waiting import Stopwatch, until

DRIVERS = len(rounds(24, 200))
MEGABYTE = 1 << 20

# Each child has a session of its own.
CROWD = """
    def crowd(count):
        ready, go = os.pipe()
        children = []
        for number in range(count):
            pid = os.fork()
            if not pid:
                os.close(go)
                os.read(ready, 1)
                run = Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1])
                right = run(delayed(pow)(number, 2) for number in range(4)) == [0, 1, 4, 9]
                joblib_clutch.connections.close_all()
                os._exit(not right)
            children.append(pid)
        begun = time.monotonic()
        os.close(go)
        codes = [os.waitpid(pid, 0)[1] for pid in children]
        os.close(ready)
        return codes.count(0), time.monotonic() - begun

    for turn in range(2):
        say(**{f"turn {turn}": crowd(int(sys.argv[3]))})
        sys.stdin.readline()
"""


def test_n13_many_drivers_come_at_once_and_again_after_a_restart(network):
    flags = ("--max-workers", "600", "--max-slots", "16")
    with Cluster(network, 1, *flags) as cluster, cluster.driver(CROWD, str(DRIVERS)) as driver:
        check_crowd(cluster.agents[0], driver, 0)
        cluster.agents[0].__exit__()
        with cluster.agent(0) as successor:
            driver.go_on()
            check_crowd(successor, driver, 1)
            driver.go_on()
            driver.finish()


def check_crowd(agent, driver, turn):
    served, took = driver.fact(f"turn {turn}", seconds=120)
    assert served == DRIVERS, driver.stderr()
    # On an idle machine a second for twenty-four.
    assert took < 10 + DRIVERS / 5
    # Listening, its own pipes and sockets, and one zygote: nothing of a driver.
    until(lambda: len(processes.descriptors_of(agent.pid)) < 60, what="few descriptors")


def test_n08_an_interrupt_at_a_driver_frees_its_agent(network):
    script = """
        import signal

        # Started by another program, a script may have SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def task(folder):
            open(os.path.join(folder, "log"), "a").write("0\\n")
            time.sleep(60)

        run = Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1], batch_size=1)
        try:
            run(delayed(task)(sys.argv[2]) for _ in range(2))
        except KeyboardInterrupt:
            say(interrupted=time.monotonic())
        say(after=Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1])(
            delayed(pow)(number, 2) for number in range(3)))
    """
    with Cluster(network, 1) as cluster, cluster.driver(script) as driver:
        cluster.began(2)
        workers = cluster.workers(0)
        assert len(workers) == 2
        with Stopwatch() as watch:
            driver.process.send_signal(signal.SIGINT)
            driver.fact("interrupted")
            assert watch.seconds < 3
            until(lambda: not any(map(processes.is_alive, workers)), seconds=3, what="free workers")
        assert driver.finish()["after"] == [0, 1, 4]


def test_n11_a_driver_that_reads_slowly_does_not_fill_its_agent(network):
    script = """
        def big(number):
            return bytes([number]) * (4 << 20)

        run = Parallel(n_jobs=2, backend="clutch", agents=sys.argv[1], batch_size=1)
        results = run(delayed(big)(number) for number in range(40))
        say(right=results == [big(number) for number in range(40)])
    """
    with Cluster(network, 1) as cluster:
        agent = cluster.agents[0]
        cluster.home.link.bandwidth("300mbit")
        before = processes.resident_bytes(agent.pid)
        with cluster.driver(script) as driver:
            most = before
            while driver.process.poll() is None:
                most = max(most, processes.resident_bytes(agent.pid))
            assert driver.finish()["right"]
        # Of 160 MiB: what is on its way, and joblib sends four batches ahead.
        assert most - before < 64 * MEGABYTE
