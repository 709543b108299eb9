"""vLLM's attention backend for CPU, with decode steps over long contexts read by pages. For vLLM 0.32.

Everything else stays with vLLM's own kernel: prompts, contexts below the threshold, the first layers. A step may hold
both kinds of requests. The bounds of pages are kept beside the cache, one tensor a layer, written whenever keys are.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Never

import torch
from vllm import _custom_ops as ops
from vllm import envs
from vllm.logger import init_logger
from vllm.model_executor.models.utils import extract_layer_index
from vllm.v1.attention.backend import AttentionType, CommonAttentionMetadata
from vllm.v1.attention.backends import cpu_attn as dense

from models.sparse import native, reference
from models.sparse.budget import PREFIX, Budget, Pages, SparseRefused, budget_from
from models.sparse.plugin import ACTIVE

log = init_logger("vllm.pointsman_sparse")  # below vLLM's own logger, which is the one it configures

LAYOUTS = {"amx": reference.TILES, "vec": reference.PLAIN, "vec16": reference.PLAIN}
CAST_CACHE = "auto"  # of --kv-cache-dtype: as the model computes


@dataclass(frozen=True, slots=True)
class Work:
    """The tokens of a step that are attended to by pages; the fields are `reference.decode`'s."""

    tokens: torch.Tensor
    requests: torch.Tensor
    lengths: torch.Tensor


@dataclass
class SparseMetadata(dense.CPUAttentionMetadata):
    """What vLLM's own kernel takes, for the layers that stay dense, and what the others need."""

    work: Work | None = None
    rest: dense.CPUAttentionMetadata | None = None  # the same step without the work; None: nothing is left


class SparseBackend(dense.CPUAttentionBackend):
    @staticmethod
    def get_impl_cls() -> type["SparseImpl"]:
        return SparseImpl

    @staticmethod
    def get_builder_cls() -> type["SparseMetadataBuilder"]:
        return SparseMetadataBuilder


class LatentRefused(dense.CPUAttentionBackend):
    """Stands where vLLM looks for latent attention."""

    @staticmethod
    def get_impl_cls() -> Never:
        raise _refused("this model's attention is latent (MLA)")


class SparseMetadataBuilder(dense.CPUAttentionMetadataBuilder):
    """Says of each step which of its tokens are read by pages. Raises SparseRefused for an engine it cannot serve."""

    def __init__(self, kv_cache_spec: Any, layer_names: list[str], vllm_config: Any, device: torch.device) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self._budget = _budget()
        check_engine(vllm_config, self.isa, self.block_size, self.head_dim, self._budget)
        log.info_once("%s: %s, by %s", ACTIVE, self._budget, "the kernel" if compiled() else "the reference: slow")

    def build(
        self, common_prefix_len: int, common_attn_metadata: CommonAttentionMetadata, fast_build: bool = False
    ) -> SparseMetadata:
        whole = super().build(common_prefix_len, common_attn_metadata, fast_build)
        step = SparseMetadata(**vars(whole))
        prefilling = common_attn_metadata.is_prefilling
        if prefilling is None or whole.causal is not True:
            return step
        count = whole.query_start_loc[1:] - whole.query_start_loc[:-1]
        sparse = ~prefilling[: len(count)] & (whole.seq_lens >= self._budget.threshold_tokens) & (count > 0)
        if not bool(sparse.any()):
            return step
        step.work = work_of(sparse, whole.query_start_loc, whole.seq_lens)
        if len(step.work.tokens) < whole.num_actual_tokens:
            step.rest = self._without(whole, sparse, count)
        return step

    def _without(
        self, whole: dense.CPUAttentionMetadata, sparse: torch.Tensor, count: torch.Tensor
    ) -> dense.CPUAttentionMetadata:
        """The step in which requests that are *sparse* see themselves alone: nearly free, and overwritten after."""
        lengths = torch.where(sparse, count, whole.seq_lens).to(whole.seq_lens.dtype)
        plan = ops.cpu_attn_get_scheduler_metadata(
            num_reqs=len(lengths),
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            seq_lens=lengths,
            dtype=self.dtype,
            query_start_loc=whole.query_start_loc,
            causal=True,
            sliding_window_size=self.window_size,
            isa=self.isa,
            enable_kv_split=envs.VLLM_CPU_ATTN_SPLIT_KV,
            kv_cache_dtype=self.kv_cache_dtype,
        )
        return dense.CPUAttentionMetadata(**{**vars(whole), "seq_lens": lengths, "scheduler_metadata": plan})


class SparseImpl(dense.CPUAttentionBackendImpl):
    """One layer. Raises SparseRefused for a layer it cannot serve."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_layer(self)
        self._budget = _budget()
        self._pages: Pages = self._budget.pages()
        self._cache: reference.Cache | None = None
        self._widen, self._decode = kernels()

    def do_kv_cache_update(
        self,
        layer: torch.nn.Module,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        slot_mapping: torch.Tensor,
    ) -> None:
        super().do_kv_cache_update(layer, key, value, kv_cache, slot_mapping)
        if not self._reads_all(layer):
            self._widen(self._cache_of(layer, kv_cache), key, slot_mapping)

    def forward(
        self,
        layer: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: dense.CPUAttentionMetadata | None,
        output: torch.Tensor,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        step = attn_metadata if isinstance(attn_metadata, SparseMetadata) else None
        if step is None or step.work is None or self._reads_all(layer):
            return super().forward(
                layer, query, key, value, kv_cache, attn_metadata, output, output_scale, output_block_scale
            )
        if step.rest is not None:
            super().forward(layer, query, key, value, kv_cache, step.rest, output)
        work, heads = step.work, (-1, self.num_heads, self.head_size)
        self._decode(
            query.view(heads),
            self._cache_of(layer, kv_cache),
            step.block_table,
            work.tokens,
            work.requests,
            work.lengths,
            self._pages,
            self.scale,
            output.view(heads),
        )
        return output

    def _reads_all(self, layer: Any) -> bool:
        return int(extract_layer_index(layer.layer_name)) < self._budget.dense_layers

    def _cache_of(self, layer: Any, kv_cache: torch.Tensor) -> reference.Cache:
        """*kv_cache* with its bounds, which begin anew when vLLM allocates it anew."""
        if self._cache is None or self._cache.blocks.data_ptr() != kv_cache.data_ptr():
            blocks, kv_heads, block, width = kv_cache.shape
            page = self._budget.page_tokens
            bounds = reference.empty_bounds(blocks * block // page, kv_heads, width // 2, kv_cache.dtype)
            self._cache = reference.Cache(kv_cache, bounds, page, LAYOUTS[layer.isa])
        return self._cache


def work_of(sparse: torch.Tensor, starts: torch.Tensor, lengths: torch.Tensor) -> Work:
    """Every token of the requests that are *sparse* (requests), each with what it sees of its context.

    More than one token of a request: a guess (speculative decoding) that is checked; the later see the earlier.
    """
    requests = torch.nonzero(sparse).flatten()
    count = (starts[1:] - starts[:-1])[requests]
    requests = requests.repeat_interleave(count)
    tokens = torch.cat([torch.arange(int(starts[r]), int(starts[r + 1])) for r in requests.unique().tolist()])
    seen = lengths[requests] - (starts[requests + 1] - 1 - tokens)
    return Work(tokens=tokens.int(), requests=requests.int(), lengths=seen.int())


def check_engine(config: Any, isa: str, block_tokens: int, dim: int, budget: Budget) -> None:
    """Raises SparseRefused for what no layer could be served with."""
    if config.kv_transfer_config is not None:
        raise _refused("a KV connector fills pages whose bounds nobody has seen")
    if isa not in LAYOUTS:
        raise _refused(f"the cache's layout on this processor ({isa}) is not one of {', '.join(LAYOUTS)}")
    if block_tokens % budget.page_tokens:
        raise _refused(f"blocks of {block_tokens} tokens do not hold pages of {budget.page_tokens}; see --block-size")
    if dim > native.MOST_DIM:
        raise _refused(f"heads of {dim} dimensions are more than {native.MOST_DIM}")
    if config.parallel_config.decode_context_parallel_size > 1:
        raise _refused("contexts are spread over workers (decode context parallelism)")


def check_layer(layer: dense.CPUAttentionBackendImpl) -> None:
    """Raises SparseRefused for a layer that attends in another way than by softmax over the whole context."""
    if layer.attn_type != AttentionType.DECODER:
        raise _refused(f"the model has attention of the kind {AttentionType(layer.attn_type).value}")
    if layer.sliding_window != -1:
        raise _refused("the model has layers with a sliding window")
    if layer.is_fp8_kv_cache or layer.kv_cache_dtype != CAST_CACHE:
        raise _refused(f"the KV cache is of the type {layer.kv_cache_dtype}; leave --kv-cache-dtype at {CAST_CACHE}")
    if layer.alibi_slopes is not None or layer.logits_soft_cap or layer.sinks is not None:
        raise _refused("the model's attention has biases, a soft cap or learned sinks")
    if layer.kv_sharing_target_layer_name is not None:
        raise _refused("the model has layers that read another layer's cache")


def kernels() -> tuple[Callable[..., None], Callable[..., torch.Tensor]]:
    """`widen` of a cache and `decode`: compiled where that is possible, else the reference."""
    if compiled():
        return native.widen, native.decode
    return (
        lambda cache, key, slots: reference.widen(cache.bounds, key[: len(slots)], slots, cache.page_tokens),
        reference.decode,
    )


def compiled() -> bool:
    try:
        native.library()
    except native.NotBuilt as error:
        log.warning_once("Pointsman's sparse attention is not compiled, and slow: %s", error)
        return False
    return True


def _budget() -> Budget:
    budget = budget_from(os.environ)
    assert budget is not None, "plugin.register puts this backend in place only for a budget"
    return budget


def _refused(why: str) -> SparseRefused:
    return SparseRefused(f"Sparse attention cannot serve this: {why}. Unset {PREFIX}BUDGET_TOKENS to serve it dense")
