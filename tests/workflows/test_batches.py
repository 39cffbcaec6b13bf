"""`rollout_batch`: the batch of any causal model, equal to what single forwards give."""

import pytest
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import KoopmanDictionary
from relax_rl.objectives import build_objective
from relax_rl.training.models import load_tokenizer
from relax_rl.workflows.batches import rollout_batch
from support.scripted import tiny_llama

PROMPTS = ["11 1 3>14:", "2 7 30>4:"]
COMPLETIONS = [["11+3=14", "11+1=12, 12+3"], ["7-2", "30-2=28, 28/7=4. 28/7"]]
REWARDS = [[1.0, 0.0], [None, 1.0]]


@pytest.fixture(scope="module")
def model():
    return tiny_llama().double()


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("tiny")


def test_it_is_what_a_forward_of_each_row_gives(model, tokenizer):
    batch = rollout_batch(model, tokenizer, PROMPTS, COMPLETIONS, REWARDS, temperature=0.7)
    for prompt, group, row in zip(PROMPTS, COMPLETIONS, range(2), strict=True):
        for place, completion in enumerate(group):
            before = tokenizer(prompt)["input_ids"]
            ids = tokenizer(completion, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                output = model(torch.tensor([before + ids]), output_hidden_states=True)
            log_softmax = (output.logits[0, len(before) - 1 : -1] / 0.7).log_softmax(-1)
            expected = log_softmax[torch.arange(len(ids)), torch.tensor(ids)]
            here = (row, place, slice(len(ids)))
            torch.testing.assert_close(batch.log_probs[here].detach(), expected)
            torch.testing.assert_close(batch.entropy[here].detach(), torch.special.entr(log_softmax.exp()).sum(-1))
            torch.testing.assert_close(batch.hidden_states[here].detach(), output.hidden_states[-1][0, len(before) :])
            assert batch.mask[row, place].sum() == len(ids)
    assert torch.equal(batch.old_log_probs, batch.log_probs.detach())
    assert batch.rewards[0].tolist() == [1.0, 0.0]
    assert batch.rewards.isnan().tolist() == [[False, False], [True, False]]


def test_an_objective_reads_it_and_gradient_flows(model, tokenizer):
    objective = build_objective("relax", xi=1.0, dictionary=KoopmanDictionary(torch.randn(32, 4) / 5))
    batch = rollout_batch(
        model, tokenizer, PROMPTS, COMPLETIONS, REWARDS, reference=tiny_llama().double(), objective=objective
    )
    torch.testing.assert_close(batch.ref_log_probs, batch.old_log_probs)
    output = objective(batch)
    assert output.metrics["latent/dsd_defined"] == 0.75  # three tokens are too few for four observables
    for read in (batch.log_probs.sum(), batch.entropy.sum(), batch.hidden_states.sum(), output.loss):
        model.zero_grad()
        read.backward(retain_graph=True)
        assert model.model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


def test_states_that_predict_are_one_place_earlier(model, tokenizer):
    arguments = (model, tokenizer, PROMPTS, COMPLETIONS, REWARDS)
    of_tokens = rollout_batch(*arguments).hidden_states
    objective = build_objective("relax", beta=0.0, xi=1.0, state_alignment="predicting")
    predicting = rollout_batch(*arguments, objective=objective).hidden_states
    torch.testing.assert_close(predicting[:, :, 1:], of_tokens[:, :, :-1])
    assert rollout_batch(*arguments, with_hidden_states=False).hidden_states is None


def test_token_ids_and_messages_are_taken_as_they_are(model, tokenizer):
    ids = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in group] for group in COMPLETIONS]
    prompt_ids = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    by_text = rollout_batch(model, tokenizer, PROMPTS, COMPLETIONS, REWARDS)
    by_ids = rollout_batch(model, tokenizer, prompt_ids, ids, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert torch.equal(by_text.log_probs, by_ids.log_probs)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    messages = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    no_end = [[tokenizer(p, add_special_tokens=False)["input_ids"] for p in PROMPTS]]
    chat = rollout_batch(model, tokenizer, messages, COMPLETIONS, REWARDS)
    tokenizer.chat_template = None
    torch.testing.assert_close(
        chat.log_probs, rollout_batch(model, tokenizer, no_end[0], COMPLETIONS, REWARDS).log_probs
    )


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"completions": [["1"], ["1", "2"]]}, DataError, r"completions\[1\] must be a list of 1 completions"),
        ({"completions": [["1", "2"]]}, DataError, "a list of 2 lists, one for each prompt, but has 1"),
        ({"completions": [["1", ""], ["1", "2"]]}, DataError, r"completions\[0\]\[1\] is empty"),
        ({"completions": [["1", [5, 10**6]], ["1", "2"]]}, DataError, "token id 1000000, outside the model's"),
        ({"prompts": "11 1 3>14:"}, DataError, "prompts must be a list"),
        ({"prompts": []}, DataError, "at least one"),
        ({"rewards": [[1.0], [1.0]]}, DataError, "2 lists of 2 numbers"),
        ({"rewards": torch.ones(2)}, DataError, r"rewards must have shape \(2, 2\)"),
        ({"temperature": 0.0}, ConfigError, "temperature is 0.0"),
        ({"objective": build_objective("grpo", beta=0.1)}, ConfigError, "pass reference=MODEL"),
        ({"objective": build_objective("hicra")}, ConfigError, "'planning_mask', which rollout_batch does not make"),
        ({"old_log_probs": torch.ones(2, 2, 1)}, DataError, "old_log_probs has shape"),
    ],
)
def test_what_does_not_fit_is_one_sentence(change, error, sentence, model, tokenizer):
    given = {"prompts": PROMPTS, "completions": COMPLETIONS, "rewards": REWARDS} | change
    with pytest.raises(error, match=sentence):
        rollout_batch(model, tokenizer, **given)
