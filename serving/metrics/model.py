"""What one model in service counts. Its label is the model's name, never a client's text.

Several generations of one name can be in service at once: two versions, or the old and the new one during a
reload. They share the series of the name, so each adds its part to the gauges and takes it back when it
retires. When the last generation of a name is gone, its gauges are removed; its counters and histograms stay,
as they would be if it came back.
"""

from __future__ import annotations

from collections import Counter as Multiset
from collections import defaultdict
from dataclasses import dataclass

from prometheus_client import Gauge

from serving.metrics import sets
from serving.metrics.declare import Declare, create_series


class ModelSeries:
    """The metric objects with a label `model`; `of` binds them to one generation of a model."""

    def __init__(self, declare: Declare) -> None:
        self.declare_work(declare)
        self.declare_streams(declare)
        self.declare_what_runs(declare)
        self.in_service: Multiset[tuple[str, ...]] = Multiset()
        """How many generations share each name, each (name, version) and each full identity."""
        self.takes_requests: Multiset[tuple[str, str]] = Multiset()
        """How many generations of each (name, version) are ready."""

    def of(self, name: str) -> ModelMetrics:
        """What a new generation of this model counts with; all its series exist from now on."""
        self._create_series(name)
        self.in_service[(name,)] += 1
        return ModelMetrics(self, name)

    def of_unknown(self) -> ModelMetrics:
        """For streams of models that are not served here; only Truncate takes them."""
        create_series(self.tokens, [(sets.UNKNOWN_MODEL, "truncate")])
        create_series(self.truncate_saved, [(sets.UNKNOWN_MODEL,)])
        return ModelMetrics(self, sets.UNKNOWN_MODEL)

    def declare_work(self, declare: Declare) -> None:
        work = ("model", "op")
        self.queue_items = declare.gauge("tessera_queue_items", "Pictures waiting for the model.", work)
        self.queue_bytes = declare.gauge("tessera_queue_bytes", "Memory of the pictures in work.", work)
        self.queue_limit_items = declare.gauge("tessera_queue_limit_items", "Limit of the queue.", work)
        self.queue_limit_bytes = declare.gauge(
            "tessera_queue_limit_bytes", "Limit of the memory, which all operations and models share.", work
        )
        self.queue_wait = declare.histogram(
            "tessera_queue_wait_seconds", "Time a picture waits for its model call.", work, sets.STAGE_S
        )
        self.stage = declare.histogram(
            "tessera_stage_duration_seconds", "Time of one stage.", (*work, "stage"), sets.STAGE_S
        )
        # Its sum over time is how busy the model is, and what wasted time is a share of: the stage
        # `inference` counts a shared call once per picture.
        self.model_call = declare.histogram(
            "tessera_model_call_seconds", "Time of one model call, whatever its batch.", work, sets.STAGE_S
        )
        self.batch_size = declare.histogram(
            "tessera_batch_size", "Pictures per model call.", work, sets.BATCH
        )
        self.batches = declare.counter("tessera_batches_total", "Model calls.", (*work, "trigger"))
        self.wasted = declare.counter(
            "tessera_wasted_compute_seconds_total", "Model time whose result nobody read.", work
        )
        self.tokens = declare.counter("tessera_tokens_total", "Tokens sent or read.", work)
        self.tokens_per_image = declare.histogram(
            "tessera_tokens_per_image", "Tokens of one picture.", work, sets.TOKENS
        )

    def declare_streams(self, declare: Declare) -> None:
        model = ("model",)
        self.codestream_size = declare.histogram(
            "tessera_codestream_size_bytes", "Size of streams made.", model, sets.SIZE_BYTES
        )
        self.codestream_bpp = declare.histogram(
            "tessera_codestream_bits_per_pixel", "Rate of streams made.", model, sets.BITS_PER_PIXEL
        )
        self.rate_targets = declare.counter(
            "tessera_rate_targets_total", "Targets asked for.", ("model", "kind", "result")
        )
        self.decode_truncated = declare.counter(
            "tessera_decode_truncated_total", "Decodes of a stream known to be cut.", model
        )
        self.truncate_saved = declare.counter(
            "tessera_truncate_bytes_saved_total", "Bytes cut off by Truncate.", model
        )

    def declare_what_runs(self, declare: Declare) -> None:
        which = ("model", "version")
        self.info = declare.gauge("tessera_model_info", "Always 1.", (*which, "digest", "provider"))
        self.ready = declare.gauge("tessera_model_ready", "1 while the model takes requests.", which)
        self.load = declare.gauge("tessera_model_load_seconds", "Time to load the model.", which)
        self.warmup = declare.gauge("tessera_model_warmup_seconds", "Time to warm it up.", which)
        self.reloads = declare.counter("tessera_model_reloads_total", "Reloads.", ("model", "result"))

    def _create_series(self, name: str) -> None:
        works = [(name, op) for op in sets.OPS]
        for metric in (
            self.queue_items,
            self.queue_bytes,
            self.queue_wait,
            self.model_call,
            self.batch_size,
            self.wasted,
            self.tokens_per_image,
        ):
            create_series(metric, works)
        create_series(self.stage, ((name, op, stage) for op in sets.OPS for stage in sets.STAGES[op]))
        create_series(self.batches, ((name, op, trigger) for op in sets.OPS for trigger in sets.TRIGGERS))
        create_series(self.tokens, ((name, op) for op in (*sets.OPS, "truncate")))
        for metric in (
            self.codestream_size,
            self.codestream_bpp,
            self.decode_truncated,
            self.truncate_saved,
        ):
            create_series(metric, [(name,)])
        create_series(self.reloads, ((name, result) for result in sets.RELOAD_RESULTS))
        targets = ((name, kind, result) for kind in sets.RATE_KINDS for result in sets.RATE_RESULTS)
        create_series(self.rate_targets, targets)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What is told of a model once it is loaded and warm."""

    version: str
    digest: str
    provider: str
    load_s: float
    warmup_s: float


class ModelMetrics:
    """The series of one generation of one model, until it retires."""

    def __init__(self, series: ModelSeries, name: str) -> None:
        self._series = series
        self._name = name
        self._loaded: LoadedModel | None = None
        self._parts: defaultdict[tuple[Gauge, str], float] = defaultdict(float)
        """What this generation has in each gauge that it shares with others of its name."""
        self._is_ready = False
        self._retired = False

    # Queues ----------------------------------------------------------------------------------------------

    def queue_items(self, op: str, change: int) -> None:
        """So many pictures more, or fewer, wait for a model call."""
        self._add(self._series.queue_items, op, change)

    def queue_bytes(self, op: str, change: int) -> None:
        """Memory of pictures in work."""
        self._add(self._series.queue_bytes, op, change)

    def queue_limits(self, *, items: int, size_bytes: int) -> None:
        """The limits beside the gauges, so that an alert can use their ratio."""
        for op in sets.OPS:
            self._add(self._series.queue_limit_items, op, items)
            # Not a sum: generations share the memory, and each has a queue of its own.
            self._series.queue_limit_bytes.labels(self._name, op).set(size_bytes)

    # Work ------------------------------------------------------------------------------------------------

    def batch(self, op: str, size: int, trigger: str) -> None:
        """A batch goes to the model."""
        self._series.batch_size.labels(self._name, op).observe(size)
        self._series.batches.labels(self._name, op, trigger).inc()

    def model_call(self, op: str, seconds: float) -> None:
        """A model call ended, well or not."""
        self._series.model_call.labels(self._name, op).observe(seconds)

    def waited(self, op: str, seconds: float) -> None:
        """A picture waited this long for its model call."""
        self._series.queue_wait.labels(self._name, op).observe(seconds)

    def wasted(self, op: str, seconds: float) -> None:
        """Model time whose result nobody reads."""
        self._series.wasted.labels(self._name, op).inc(seconds)

    def stages(self, op: str, seconds: dict[str, float]) -> None:
        """Where the time of one served request went."""
        for stage in sets.STAGES[op]:
            if stage in seconds:
                self._series.stage.labels(self._name, op, stage).observe(seconds[stage])

    def tokens(self, op: str, count: int) -> None:
        """Tokens sent (encode) or read (decode)."""
        self._series.tokens.labels(self._name, op).inc(count)
        self._series.tokens_per_image.labels(self._name, op).observe(count)

    def codestream(self, size_bytes: int, bits_per_pixel: float) -> None:
        """A stream of this size was made."""
        self._series.codestream_size.labels(self._name).observe(size_bytes)
        self._series.codestream_bpp.labels(self._name).observe(bits_per_pixel)

    def rate_target(self, kind: str, result: str) -> None:
        """What was asked for, and whether it was kept."""
        self._series.rate_targets.labels(self._name, kind, result).inc()

    def decoded_cut_stream(self) -> None:
        """A stream that is known to lack tokens was decoded."""
        self._series.decode_truncated.labels(self._name).inc()

    def truncated(self, token_count: int, saved_bytes: int) -> None:
        """Truncate made a stream of so many tokens, shorter by so many bytes."""
        self._series.tokens.labels(self._name, "truncate").inc(token_count)
        self._series.truncate_saved.labels(self._name).inc(saved_bytes)

    # Life ------------------------------------------------------------------------------------------------

    def loaded(self, model: LoadedModel) -> None:
        """The model is loaded and warm, and not ready yet."""
        assert self._loaded is None, "a generation is loaded once"
        self._loaded = model
        which = (self._name, model.version)
        identity = (*which, model.digest, model.provider)
        self._series.in_service.update((which, identity))
        self._series.info.labels(*identity).set(1)
        self._series.load.labels(*which).set(model.load_s)
        self._series.warmup.labels(*which).set(model.warmup_s)
        self._series.ready.labels(*which)

    def ready(self, ready: bool) -> None:
        """The model takes requests, or no longer does."""
        assert self._loaded is not None, "a model is loaded before it is ready"
        which = (self._name, self._loaded.version)
        self._series.takes_requests[which] += ready - self._is_ready
        self._is_ready = ready
        self._series.ready.labels(*which).set(self._series.takes_requests[which] > 0)

    def reloaded(self, result: str) -> None:
        """An operator had this model loaded again; `failed` left it as it was."""
        self._series.reloads.labels(self._name, result).inc()

    def retire(self) -> None:
        """Take back what this generation added; remove the gauges that no other generation has a part in."""
        for (gauge, op), part in self._parts.items():
            gauge.labels(self._name, op).dec(part)
        self._retired = True
        if self._loaded is not None:
            self.ready(False)
            self._retire_identity(self._loaded)
        if self._leave((self._name,)):
            series = self._series
            for gauge in (
                series.queue_items,
                series.queue_bytes,
                series.queue_limit_items,
                series.queue_limit_bytes,
            ):
                for op in sets.OPS:
                    gauge.remove(self._name, op)

    def _retire_identity(self, model: LoadedModel) -> None:
        which = (self._name, model.version)
        identity = (*which, model.digest, model.provider)
        if self._leave(identity):
            self._series.info.remove(*identity)
        if self._leave(which):
            for gauge in (self._series.ready, self._series.load, self._series.warmup):
                gauge.remove(*which)

    def _leave(self, shared: tuple[str, ...]) -> bool:
        """True if this was the last generation that shared it."""
        in_service = self._series.in_service
        in_service[shared] -= 1
        return in_service[shared] == 0

    def _add(self, gauge: Gauge, op: str, change: float) -> None:
        # A request that outlives its model's drain must not bring a removed gauge back, below zero.
        if not self._retired:
            self._parts[gauge, op] += change
            gauge.labels(self._name, op).inc(change)
