#!/usr/bin/env python3
"""Seconds from start to end of `kinora launch -n N` against mpirun with a bare program of MPI and ATen.

  python3 bench/start_ranks.py build/kinora build/tests/steps_on_ranks [--ranks 1 2 4 8] [--rounds 4]

Both in turn, the best of the rounds. What is launched joins, makes one step and ends; the bare program starts MPI, adds up one
number over ranks and ends. It is compiled here, with g++ and the LibTorch of .deps (or of $KINORA_DEPS).
"""
import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

BARE = """
#include <ATen/ATen.h>
#include <mpi.h>
int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  at::Tensor one = at::ones({1});
  MPI_Allreduce(MPI_IN_PLACE, one.data_ptr<float>(), 1, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  MPI_Finalize();
  return one.item<float>() > 0 ? 0 : 1;
}
"""


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def compile_bare(folder):
    deps = Path(os.environ.get("KINORA_DEPS", Path(__file__).resolve().parent.parent / ".deps")).resolve()
    torch, cuda = deps / "torch", deps / "nvidia" / "cu13" / "lib"
    (folder / "bare.cpp").write_text(BARE)
    subprocess.run(["g++", "-std=c++20", "-O1", folder / "bare.cpp", "-o", folder / "bare", "-isystem", torch / "include",
                    *output_of("mpicxx", "--showme:compile"), f"-L{torch / 'lib'}", "-ltorch_cpu", "-lc10", *output_of("mpicxx", "--showme:link"),
                    f"-Wl,--no-as-needed,--allow-shlib-undefined,-rpath,{torch / 'lib'},-rpath,{cuda},--disable-new-dtags"], check=True)
    return folder / "bare"


def seconds_of(command, env):
    begin = time.monotonic()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("steps", type=Path)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=4)
    o = parser.parse_args()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if os.geteuid() == 0:
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    print("| ranks | bare | launch |\n|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="start-ranks-") as folder:
        bare = compile_bare(Path(folder))
        for n in o.ranks:
            commands = {"bare": ["mpirun", "-n", str(n), "--oversubscribe", "--bind-to", "none", bare],
                        "launch": [o.program.resolve(), "launch", "-n", str(n), "--", o.steps.resolve(), "--steps", "1", "--step-ms", "0"]}
            best = {name: min(times) for name, times in zip(commands, zip(*[[seconds_of(c, env) for c in commands.values()] for _ in range(o.rounds)]))}
            print(f"| {n} | {best['bare']:.2f} | {best['launch']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
