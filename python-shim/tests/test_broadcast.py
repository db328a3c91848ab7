"""The order in which agents get a content from each other."""

import random

import pytest

from joblib_clutch.broadcast import Chain, plan

ROUNDS = 100


def test_each_agent_asks_the_one_before_it_first():
    assert plan([], [], ["a", "b", "c"]) == [("a", []), ("b", ["a"]), ("c", ["b", "a"])]


def test_who_has_it_or_is_receiving_it_is_asked_first():
    assert plan(["a"], [], ["b"]) == [("b", ["a"])]
    assert plan(["a"], ["b", "c"], ["d"]) == [("d", ["c", "b", "a"])]


def test_the_last_source_of_a_long_chain_is_its_head():
    told = plan([], [], list(range(10)))
    assert told[9] == (9, [8, 7, 6, 0])


def test_who_has_left_is_no_source():
    chain = Chain()
    for agent in "abc":
        chain.begin(agent)
    chain.leave("b")
    assert chain.sources("d") == ["c", "a"]
    chain.leave("never came")
    assert chain.begin("b") == ["c", "a"], "it came back"
    assert chain.sources("d") == ["b", "c", "a"]


def test_who_is_alone_gets_it_from_this_process():
    chain = Chain()
    assert chain.begin("a") == []
    assert chain.begin("a") == [], "never from itself"
    chain.have("a")
    assert chain.begin("a") == []
    chain.leave("a")
    assert chain.begin("b") == []


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_plan_is_one_chain_without_a_circle(seed):
    chance = random.Random(seed)
    agents = list(range(chance.randint(1, 20)))
    chance.shuffle(agents)
    first, second = sorted(chance.choices(range(len(agents) + 1), k=2))
    have, receiving, need = agents[:first], agents[first:second], agents[second:]
    told = plan(have, receiving, need)
    assert [agent for agent, _ in told] == need
    # Content comes from this process once, and only where no agent has it.
    from_here = [agent for agent, sources in told if not sources]
    assert from_here == ([] if have or receiving else need[:1])
    # Nobody is asked first by two.
    asked = [sources[0] for _, sources in told if sources]
    assert len(set(asked)) == len(asked)
    # Whoever is asked was there before.
    before = set(have) | set(receiving)
    for agent, sources in told:
        assert set(sources) <= before
        assert len(set(sources)) == len(sources)
        before.add(agent)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_chain_that_changes_names_members_only_and_never_forms_a_circle(seed):
    chance = random.Random(seed)
    chain: Chain[int] = Chain()
    here: set[int] = set()
    # Whom each agent waits for, until it has the content.
    waits: dict[int, list[int]] = {}
    for _ in range(60):
        agent = chance.randrange(8)
        match chance.randrange(3):
            case 0 if agent not in here:
                waits[agent] = chain.begin(agent)
                assert set(waits[agent]) <= here
                assert bool(waits[agent]) == bool(here)
                here.add(agent)
            case 1 if agent in here:
                chain.have(agent)
                waits.pop(agent, None)
            case 2:
                chain.leave(agent)
                here.discard(agent)
                waits.pop(agent, None)
                # Its streams end with it.
                for sources in waits.values():
                    if agent in sources:
                        sources.remove(agent)
        assert set(chain.members) == here
        assert not _circle(waits)


def _circle(waits):
    done = set()

    def visit(agent, path):
        if agent in path:
            return True
        if agent in done:
            return False
        done.add(agent)
        return any(visit(source, {*path, agent}) for source in waits.get(agent, ()))

    return any(visit(agent, set()) for agent in waits)
