#!/usr/bin/env python3
"""kinora launch from outside: exit codes, words, what is left behind. What goes wrong between ranks: faults.py.
Usage: launch_test.py PROGRAM STEPS_ON_RANKS [TEST...]
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from rank_runs import leftovers, processes_of

PROGRAM, STEPS = Path(sys.argv.pop(1)).resolve(), Path(sys.argv.pop(1)).resolve()


class Launch(unittest.TestCase):
    def setUp(self):
        self.work = Path(tempfile.mkdtemp(prefix="launch-"))
        self.before = leftovers()

    def tearDown(self):
        shutil.rmtree(self.work)
        self.assertEqual(leftovers() - self.before, set())
        self.assertEqual(processes_of(f"KINORA_TEST={self.work}"), [])

    def env(self, more=None):
        return {**os.environ, "KINORA_TEST": str(self.work), **(more or {})}

    def launch(self, *args, env=None, ranks=2, code=0):
        done = subprocess.run([PROGRAM, "launch", "-n", str(ranks), *map(str, args)], cwd=self.work, capture_output=True, text=True,
                              env=self.env(env), timeout=100)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def refused(self, code, *args, says, env=None, ranks=2):
        begin = time.monotonic()
        done = self.launch(*args, env=env, ranks=ranks, code=code)
        self.assertTrue(done.stderr.startswith("kinora: "), done.stderr)
        self.assertLessEqual(len(done.stderr.splitlines()), 2, done.stderr)
        self.assertIn(says, done.stderr)
        self.assertEqual(done.stdout, "")
        return time.monotonic() - begin

    def test_rank_zero_speaks_for_itself_and_others_are_named(self):
        done = self.launch("--", "sh", "-c", "echo out $OMPI_COMM_WORLD_RANK; echo err $OMPI_COMM_WORLD_RANK >&2", ranks=3)
        self.assertEqual(sorted(done.stdout.splitlines()), ["out 0", "rank 1: out 1", "rank 2: out 2"])
        self.assertEqual(sorted(done.stderr.splitlines()), ["err 0", "rank 1: err 1", "rank 2: err 2"])

    def test_lines_stay_whole_and_large_outputs_arrive(self):
        done = self.launch("--", "sh", "-c", "for i in $(seq 2000); do echo $OMPI_COMM_WORLD_RANK-$i-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done")
        self.assertEqual(sorted(done.stdout.splitlines()),
                         sorted(f"{'rank 1: ' if r else ''}{r}-{i}-{'x' * 36}" for r in (0, 1) for i in range(1, 2001)))

    def test_the_first_failing_rank_gives_its_exit_code_and_last_words(self):
        done = self.launch("--", "sh", "-c", "[ $OMPI_COMM_WORLD_RANK = 1 ] && { echo my disk is full >&2; exit 7; }; exec sleep 60", code=7)
        self.assertIn("kinora: rank 1 ended with exit code 7, and all ranks with it\n", done.stderr)
        self.assertTrue(done.stderr.endswith("the last words of rank 1: my disk is full\n"), done.stderr)
        done = self.launch("--", "sh", "-c", "[ $OMPI_COMM_WORLD_RANK = 1 ] && kill -9 $$; exec sleep 60", code=137)
        self.assertIn("kinora: rank 1 was killed by signal 9", done.stderr)

    def test_children_of_ranks_do_not_outlive_the_run(self):
        self.launch("--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & exit 0")

    def test_threads_are_shared_between_ranks(self):
        cores = len(os.sched_getaffinity(0))
        show = ["--", "sh", "-c", "echo $OMP_NUM_THREADS"]
        env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        done = subprocess.run([PROGRAM, "launch", "-n", "2", *show], capture_output=True, text=True, env=env, timeout=60)
        self.assertEqual(done.stdout.splitlines()[0].split()[-1], str(max(1, cores // 2)))
        self.assertEqual(self.launch(*show, env={"OMP_NUM_THREADS": "5"}).stdout.splitlines()[0].split()[-1], "5")

    def test_ranks_agree_on_a_result(self):
        alone = subprocess.run([STEPS], capture_output=True, text=True, timeout=60)
        self.assertEqual(self.launch("--", STEPS, ranks=3).stdout, alone.stdout)

    def test_records_of_errors_are_kept_when_asked_for(self):
        self.launch("--records", "kept", "--", STEPS, "--fault", "throw", code=65)
        record = json.loads((self.work / "kept" / "rank-1.json").read_text())
        self.assertEqual((record["rank"], record["exit_code"], record["error"]), (1, 65, "this rank's file is damaged"))
        self.assertTrue(record["last_collectives"][-1].startswith("all_gather #"), record)

    def test_ctrl_c_stops_a_foreign_program_too(self):
        for times in (1, 2):
            begun = subprocess.Popen([PROGRAM, "launch", "-n", "2", "--", "sh", "-c", "echo up; exec sleep 100"], stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env=self.env())
            begun.stdout.readline(), begun.stdout.readline()
            begin = time.monotonic()
            for _ in range(times):
                begun.send_signal(signal.SIGINT)
                time.sleep(0.2)
            words = begun.communicate(timeout=30)[1]
            self.assertEqual(begun.returncode, 130, words)
            self.assertIn(b"kinora: cancelled", words)
            self.assertLess(time.monotonic() - begin, 5)

    def test_what_cannot_be_launched_is_refused(self):
        self.refused(2, says="there is no command to launch")
        self.refused(2, "--", "no-such-program", says="no-such-program")
        self.refused(2, "--", "true", ranks=0, says="there cannot be 0 ranks")
        self.refused(2, "--deadline", "0", "--", "true", says="--deadline")
        self.refused(2, "--", "true", env={"KINORA_DEADLINE": "soon"}, says="KINORA_DEADLINE")
        self.refused(2, "--", "true", env={"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, says="rank 1 of 2 already")
        self.refused(69, "--", "/bin/true", env={"PATH": "/nowhere"}, says="install openmpi-bin")
        self.refused(2, "--hosts", "none", "--", "true", says="none")
        (self.work / "hosts").write_text("node1 slots=many\n")
        self.refused(65, "--hosts", "hosts", "--", "true", says="hosts, line 1")

    def test_a_host_that_does_not_answer_is_named_in_time(self):
        (self.work / "hosts").write_text("localhost\nnode7\n")
        ssh = self.work / "ssh"
        path = {"PATH": f"{self.work}:{os.environ['PATH']}"}
        for script, says in (("echo 'ssh: connect to host node7 port 22: No route to host' >&2; exit 255", "node7 does not answer: ssh: connect"),
                             ("exec sleep 100", "node7 does not answer within 15 s")):
            ssh.write_text(f"#!/bin/sh\n{script}\n")
            ssh.chmod(0o755)
            self.assertLess(self.refused(69, "--hosts", "hosts", "--", "true", env=path, says=says), 20)

    def test_an_error_that_several_ranks_tell_is_shown_once(self):
        done = self.launch("--", "sh", "-c", "echo kinora: no disk >&2; echo '  buy one' >&2; echo working on >&2; exit 69", ranks=3, code=69)
        self.assertEqual(done.stderr.count("kinora: no disk"), 1, done.stderr)
        self.assertEqual(done.stderr.count("  buy one"), 1, done.stderr)

    def test_ranks_of_other_hosts_run_and_end_as_those_of_this_one(self):
        """Hosts are name spaces of this one where that is allowed, and otherwise only names."""
        apart = subprocess.run(["unshare", "-m", "-u", "true"], capture_output=True).returncode == 0
        enter = 'unshare -m -u --propagation private bash -c "hostname $host; mount -t tmpfs tmpfs /dev/shm; $*"'
        ssh = self.work / "ssh"
        ssh.write_text("#!/bin/bash\nwhile [[ $1 == -* ]]; do [[ $1 == -o ]] && shift; shift; done\nhost=$1; shift\nexec " +
                       (enter if apart else 'bash -c "$*"') + "\n")
        ssh.chmod(0o755)
        (self.work / "hosts").write_text("node1 slots=1\nnode2 slots=2\n")
        far = ["--hosts", "hosts", "--deadline", "3", "--", STEPS]
        env = {"PATH": f"{self.work}:{os.environ['PATH']}"}
        alone = subprocess.run([STEPS], capture_output=True, text=True, timeout=60)
        self.assertEqual(self.launch(*far, ranks=3, env=env).stdout, alone.stdout)
        for fault, code, says in (("throw", 65, "file is damaged"), ("stop", 75, "nothing from rank 1 within 3 s"), ("name", 76, "ranks disagree"),
                                  ("config", 76, "ranks differ in the configuration")):
            done = self.launch(*far, "--fault", fault, ranks=3, env=env, code=code)
            told = [line for line in done.stderr.splitlines() if "kinora: " in line]
            self.assertEqual(len(told), 1, done.stderr)
            self.assertIn(says, told[0])

    def test_one_rank_cannot_be_measured(self):
        done = subprocess.run([PROGRAM, "bench", "comm"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("kinora launch", done.stderr)

    def test_measurements_are_json_lines_of_rank_zero(self):
        done = self.launch("--", "kinora", "bench", "comm", "--size", "4096", "--repeats", "1", ranks=3)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([r["collective"] for r in rows],
                         ["all_to_all", "all_gather", "reduce_scatter", "all_reduce", "broadcast", "all_reduce beside MPI_Allreduce"])
        self.assertEqual(rows[4]["sent_bytes"], 2 * 4096)
        # 1024 elements: 342 for rank 0, which sends the other 682 and its own twice.
        self.assertEqual(rows[3]["sent_bytes"], 4 * (682 + 2 * 342))


if __name__ == "__main__":
    unittest.main(verbosity=1)
