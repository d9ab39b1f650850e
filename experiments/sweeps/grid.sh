#!/usr/bin/env bash
# A grid of 3 x 3 loss weights and 3 seeds on the embedded default, and its report. Stopped, it goes on:
#   unlearn -m sweep.resume=runs/grid
# Usage: experiments/sweeps/grid.sh [more overrides, such as hydra.launcher.n_jobs=2]
set -euo pipefail
cd "$(dirname "$0")/../.."

unlearn -m experiment=demo seed=0,1,2 \
  objective.forget.weight=0.1,0.25,0.6 objective.retain.weight=5,15,45 \
  hydra.sweep.dir=runs/grid "$@"
python experiments/sweeps/cost.py runs/grid
