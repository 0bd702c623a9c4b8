"""Calls at the end of the interpreter."""

import subprocess
import sys

CODE = """
from concurrent.futures import ThreadPoolExecutor
from curiosity_bluesky.utils.at_exit import call_at_exit
pool = ThreadPoolExecutor()
call_at_exit(lambda: print("first given", pool.submit(lambda: 1).result()))
call_at_exit(lambda: print("last given", pool.submit(lambda: 2).result()))
"""


def test_thread_pools_still_work_and_the_last_comes_first():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["last given 2", "first given 1", ""]
