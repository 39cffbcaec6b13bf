# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
"""vLLM on a CPU with weights that can be loaded again, and `relax` with it: python -m support.vllm_cpu train ..."""

import sys
import types

import torch


def _loadable_weights(module: types.ModuleType) -> None:
    """vLLM packs the weights of linear layers for oneDNN; what is packed cannot be loaded again."""

    def dispatch(layer, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    module.dispatch_cpu_unquantized_gemm = dispatch


class _WhenVllmComes:
    """Replaces vLLM's function when its module is imported, also later and in processes of its own."""

    name = "vllm.model_executor.layers.utils"

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        try:
            from importlib.util import find_spec

            spec = find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_replace(module: types.ModuleType) -> None:
            run(module)
            _loadable_weights(module)

        spec.loader.exec_module = run_and_replace
        return spec


def keep_weights_loadable() -> None:
    """Whether vLLM is imported already or not."""
    if (loaded := sys.modules.get(_WhenVllmComes.name)) is not None:
        _loadable_weights(loaded)
    sys.meta_path.insert(0, _WhenVllmComes())


if __name__ == "__main__":
    keep_weights_loadable()
    from relax_rl.cli.main import main

    sys.exit(main())
