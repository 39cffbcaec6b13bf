"""Two updates of the scripted trainer, on as many processes as torchrun starts; rank 0 saves what came of them.

torchrun --nproc_per_node 2 tests/support/ranks.py METHOD OUTPUT GRADIENT_ACCUMULATION_STEPS
"""

import json
import sys
from pathlib import Path

import torch

from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import LOG_PARTITION
from support.scripted import make_trainer

OPTIONS = {
    "grpo": {"beta": 0.05},
    "relax": {"xi": "quantile:0.5", "beta": 0.05, "dictionary": {"num_observables": 8, "steps": 3}},
    "forking_tokens": {},
    "kl_cov": {"k_ratio": 0.2, "coefficient": 5.0},
    "opefo": {},
    "adaptive_entropy_bonus": {"target": 100.0, "delta": 1.0, "coefficient": 0.5},
    "dcpo": {},
    "flow_rl": {"tilt": 0.5},
}
SETTINGS = {"kl_cov": {"num_iterations": 2}}
"""KL-Cov acts where the ratio is not 1: in the second update of a rollout batch."""


def main() -> None:
    torch.set_num_threads(1)
    method, output, accumulation = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    objective = build_objective(method, **OPTIONS[method])
    trainer = make_trainer(
        objective,
        output,
        gradient_accumulation_steps=accumulation,
        optim="sgd",
        learning_rate=0.1,
        max_grad_norm=0.0,
        save_strategy="steps",
        save_steps=1,
        **SETTINGS.get(method, {}),
    )
    provider = trainer._providers.get(LOG_PARTITION)
    head = None if provider is None else provider.head
    trainer.train()
    if trainer.accelerator.is_main_process:
        model = trainer.accelerator.unwrap_model(trainer.model)
        heads = {} if head is None else head.state_dict(prefix="partition.")
        torch.save(model.state_dict() | heads, output / "parameters.pt")
        rows = [row for row in trainer.state.log_history if "reward" in row]
        (output / "log.json").write_text(json.dumps([trainer.accelerator.num_processes, rows]))
    trainer.leave_group()


main()
