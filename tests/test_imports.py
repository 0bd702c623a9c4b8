"""What is imported when: most commands only read, and torch takes seconds."""

import subprocess
import sys


def in_a_new_process(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_only_reads_does_not_wait_for_the_learning():
    in_a_new_process(
        "from curiosity_bluesky import connect, read\n"
        "import sys; assert not {'torch', 'sklearn', 'ophyd', 'matplotlib'} & set(sys.modules)"
    )


def test_the_names_of_strategies_do_not_wait_for_the_learning():
    in_a_new_process(
        "from curiosity_bluesky.errors import InputError\n"
        "from curiosity_bluesky.learning import Strategy\n"
        "assert 'curious' in Strategy.names()\n"
        "try:\n"
        "    Strategy.named('curius')\n"
        "except InputError as error:\n"
        "    assert 'curious' in str(error)\n"
        "import sys; assert not {'torch', 'sklearn'} & set(sys.modules)"
    )


def test_a_strategy_of_ones_own_keeps_its_name_when_ours_are_loaded_after_it():
    in_a_new_process(
        "from dataclasses import dataclass\n"
        "from curiosity_bluesky.learning import Strategy, register\n"
        "class Mine(Strategy):\n"
        "    name = 'random'\n"
        "register(dataclass(frozen=True)(Mine))\n"
        "assert 'curious' in Strategy.names()\n"
        "assert type(Strategy.named('random')) is Mine"
    )


def test_the_one_thread_of_the_learning_is_that_of_every_library_that_it_loads():
    in_a_new_process(
        "from threadpoolctl import ThreadpoolController\n"
        "from curiosity_bluesky.learning import Strategy, threads\n"
        "limited = {found['filepath'] for found in threads._controller().info()}\n"
        "assert all(map(Strategy.named, Strategy.names()))\n"
        "assert limited == {found['filepath'] for found in ThreadpoolController().info()}"
    )
