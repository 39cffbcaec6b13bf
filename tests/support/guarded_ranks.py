"""Four updates of the scripted trainer under torchrun, of which the last process spoils some; rank 0 saves what came.

torchrun --nproc_per_node 2 tests/support/guarded_ranks.py METHOD OUTPUT UPDATES
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from relax_rl.errors import NumericalError
from relax_rl.objectives import build_objective
from support.scripted import make_trainer


def main() -> None:
    torch.set_num_threads(1)
    method, output, spoilt = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    options: dict[str, Any] = {"tilt": 0.5} if method == "flow_rl" else {}
    objective = build_objective(method, **options)
    trainer = make_trainer(objective, output, gradient_accumulation_steps=2, max_steps=4)
    said: list[str] = []
    trainer.notices.listen(said.append)
    last = trainer.accelerator.process_index == trainer.accelerator.num_processes - 1

    def spoil(module: torch.nn.Module, args: object, states: torch.Tensor) -> torch.Tensor:
        is_due = torch.is_grad_enabled() and trainer.state.global_step + 1 in spoilt and trainer._step % 2 == 0
        if not (last and is_due):
            return states
        rows = torch.zeros(len(states), 1, 1, dtype=torch.bool)
        rows[2] = True
        return states.masked_fill(rows, float("nan"))

    trainer.model.get_submodule("model.norm").register_forward_hook(spoil)
    stopped = ""
    try:
        trainer.train()
    except NumericalError as error:
        stopped = str(error)
    sums = [float(parameter.double().sum()) for parameter in trainer.model.parameters()]
    found = gather_object([{"sums": sums, "stopped": stopped, "updates": trainer.state.global_step, "said": said}])
    if trainer.accelerator.is_main_process:
        rows = [row for row in trainer.state.log_history if "grad_norm" in row]
        (output / "found.json").write_text(json.dumps({"ranks": found, "rows": rows}))
    trainer.leave_group()


main()
