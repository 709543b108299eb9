"""A small model learns to answer one template as a larger one does: sequence-level distillation through a LoRA.

The teacher's whole answers are the labels (Kim and Rush, "Sequence-Level Knowledge Distillation", 2016, section 3.2);
low-rank updates of every matrix are what is learnt (Hu et al., "LoRA", 2021, section 4.1) and merged into the weights
at the end, so that any engine serves the result. The step with the least loss on validation examples is the one that
is kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import cos, isfinite, isnan, pi
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from models.compress.checkpoint import Checkpoint, dense
from models.compress.examples import IGNORED, Batch, Example, batch_of, examples_of, order_of
from models.compress.loading import model_of, save_dense, tokenizer_of
from models.compress.work import Work, check_result, result_folder
from models.job import JobFailed, OnStep, Step

WARM_SHARE = 0.1  # of the steps, in which the rate rises from zero
LONGEST_GRADIENT = 1.0
STATE, PROGRESS, BEST = "state.safetensors", "progress.json", "best.safetensors"


@dataclass(frozen=True, slots=True)
class Teaching:
    """How it is taught. `rate`: the highest learning rate; the whole is one cosine."""

    rank: int = 16
    rate: float = 5e-4
    epochs: int = 6
    batch: int = 8
    look_every: int = 10  # steps between two looks at the validation examples, and two checkpoints
    most_tokens: int = 1024
    seed: int = 0


def distill(settings: Mapping[str, Any], work: Work, on_step: OnStep) -> Mapping[str, Any]:
    """`examples`, `validation`: rows of messages and answer. Raises JobFailed."""
    source, result = dense(Path(settings["source"])), Path(settings["result"])
    check_result(result, source.size_bytes)
    teaching = Teaching(**settings.get("teaching", {}))
    tokenizer = tokenizer_of(source)
    examples = examples_of(tokenizer, settings["examples"], teaching.most_tokens)
    validation = examples_of(tokenizer, settings["validation"], teaching.most_tokens)
    torch.manual_seed(teaching.seed)
    student = get_peft_model(model_of(source), lora_of(source, teaching))
    pupil = Pupil(student, teaching, steps_of(examples, teaching), tokenizer.eos_token_id)
    losses = pupil.learn(examples, validation, work, on_step)
    pupil.load(work.path(BEST))
    with result_folder(result) as folder:
        save_dense(student.merge_and_unload(), source, folder)
    work.drop()
    best = min(losses, key=lambda row: row["validation"])
    return {
        "result": str(result),
        "examples": len(examples),
        "validation": len(validation),
        "trained_parameters": pupil.parameters,
        "steps": pupil.steps,
        "kept_step": best["step"],
        "losses": losses,
    }


def lora_of(source: Checkpoint, teaching: Teaching) -> LoraConfig:
    # Twice the rank as alpha, so that its scale stays the same whatever the rank; no dropout, so that a run that was
    # interrupted goes on as if it had not been.
    return LoraConfig(
        r=teaching.rank,
        lora_alpha=2 * teaching.rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def steps_of(examples: Sequence[Example], teaching: Teaching) -> int:
    return teaching.epochs * -(-len(examples) // teaching.batch)


class Pupil:
    """A model, its optimiser, and how far it is; all of it survives an interruption."""

    def __init__(self, model: Any, teaching: Teaching, steps: int, padding: int) -> None:
        self.model, self.teaching, self.steps, self._padding = model, teaching, steps, padding
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._optimiser = torch.optim.AdamW(self._trained.values(), lr=teaching.rate, weight_decay=0.0)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self._trained.values())

    def learn(
        self, examples: Sequence[Example], validation: Sequence[Example], work: Work, on_step: OnStep
    ) -> list[Any]:
        """The losses at each look, from step 0 on. What is in *work* is not done again."""
        losses: list[Any] = work.kept(PROGRESS) or []
        done = self._resume(work, losses)
        if not losses:
            losses = self._look([], 0, float("nan"), validation, work)
        self.model.train()
        seen: list[float] = []
        for step, batch in enumerate(self._batches(examples), start=1):
            if step <= done:
                continue
            seen.append(self._step(step, batch))
            on_step(
                Step(f"step {step}, loss {seen[-1]:.3f}, validation {losses[-1]['validation']:.3f}", step, self.steps)
            )
            if step % self.teaching.look_every == 0 or step == self.steps:
                losses = self._look(losses, step, sum(seen) / len(seen), validation, work)
                seen.clear()
        return losses

    def load(self, path: Path) -> None:
        """What is learnt, from a file of this class's."""
        for name, values in load_file(path).items():
            if name in self._trained:
                self._trained[name].data.copy_(values)

    def loss(self, examples: Sequence[Example]) -> float:
        """Nats per token of the answers."""
        self.model.eval()
        total, tokens = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(examples), self.teaching.batch):
                batch = batch_of(examples[start : start + self.teaching.batch], self._padding)
                count = int((batch.wanted != IGNORED).sum())
                total, tokens = total + float(self._loss(batch)) * count, tokens + count
        self.model.train()
        return total / tokens

    def _batches(self, examples: Sequence[Example]) -> Iterator[Batch]:
        for epoch in range(self.teaching.epochs):
            order = order_of(len(examples), epoch, self.teaching.seed)
            for start in range(0, len(order), self.teaching.batch):
                yield batch_of([examples[place] for place in order[start : start + self.teaching.batch]], self._padding)

    def _step(self, step: int, batch: Batch) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = self.teaching.rate * share_of(step, self.steps)
        loss = self._loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained.values(), LONGEST_GRADIENT)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return float(loss.detach())

    def _loss(self, batch: Batch) -> torch.Tensor:
        # The head is computed where an answer stands, and one place earlier: a place foretells the next.
        logits = self.model(input_ids=batch.ids, attention_mask=batch.mask, logits_to_keep=batch.kept + 1).logits
        return cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch.wanted.flatten(), ignore_index=IGNORED)

    def _look(
        self, losses: list[Any], step: int, taught: float, validation: Sequence[Example], work: Work
    ) -> list[Any]:
        loss = self.loss(validation)
        row = {"step": step, "taught": None if isnan(taught) else taught, "validation": loss}
        if not isfinite(loss):
            raise JobFailed(
                f"after step {step} the loss is no number any more; take a lower --rate than {self.teaching.rate:g}"
            )
        if all(loss < earlier["validation"] for earlier in losses):
            with work.writing(BEST) as draft:
                save_file({name: p.detach().contiguous() for name, p in self._trained.items()}, draft)
        with work.writing(f"{step}.{STATE}") as draft:
            save_file(self._state(), draft)
        work.keep(PROGRESS, [*losses, row])
        for earlier in losses[-1:]:
            work.path(f"{earlier['step']}.{STATE}").unlink(missing_ok=True)
        return [*losses, row]

    def _state(self) -> dict[str, torch.Tensor]:
        """Weights, and both moments of each."""
        state = {name: p.detach().contiguous() for name, p in self._trained.items()}
        for name, p in self._trained.items():
            for moment, values in self._optimiser.state.get(p, {}).items():
                state[f"{moment}/{name}"] = values.contiguous()
        return state

    def _resume(self, work: Work, losses: Sequence[Mapping[str, Any]]) -> int:
        """The last step that is done."""
        if not losses:
            return 0
        step = int(losses[-1]["step"])
        state = load_file(work.path(f"{step}.{STATE}"))
        for name, p in self._trained.items():
            p.data.copy_(state[name])
            moments = ("step", "exp_avg", "exp_avg_sq")
            if f"step/{name}" in state:
                self._optimiser.state[p] = {moment: state[f"{moment}/{name}"].clone() for moment in moments}
        return step


def share_of(step: int, steps: int) -> float:
    """Of the highest learning rate: up in a straight line, then down a cosine."""
    warm = max(1, round(WARM_SHARE * steps))
    return step / warm if step < warm else 0.5 * (1 + cos(pi * (step - warm) / max(1, steps - warm)))
