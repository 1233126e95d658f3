"""Replicas: gathering, statistics and strategies; the only file that names `tf.distribute`.

On TensorFlow a training step runs once on every replica, on its share of the global batch: these
functions gather the shares. On JAX the step is written for the global batch and the compiler shards
it, so one "replica" is all there is and the same functions are identities. A method calls them
without asking which case it is in.
"""

import contextlib
from collections.abc import Callable

import keras

_TENSORFLOW = keras.backend.backend() == "tensorflow"

if _TENSORFLOW:
    import tensorflow as tf
    from tensorflow.python import pywrap_tfe as _eager
    from tensorflow.python.client import pywrap_tf_session as _session
    from tensorflow.python.eager import context as _context
    from tensorflow.python.framework import ops as _framework
else:
    import jax


def num_replicas() -> int:
    """Number of replicas among which the global batch is divided inside a training step."""
    return tf.distribute.get_strategy().num_replicas_in_sync if _TENSORFLOW else 1


def _replica_context():
    """The context of this replica, or None where nothing is divided."""
    if not _TENSORFLOW or num_replicas() == 1:
        return None
    return tf.distribute.get_replica_context()


def all_gather(x):
    """Concatenate `x` of all replicas along the first axis, in replica order; differentiable.

    The gradient of a loss that every replica computes from the gathered tensor is, after the sum
    over replicas that the optimizer makes and the division by their number in `SSLModel.minimize`,
    the gradient of that loss for one device.

    Args:
        x: tensor `(n, ...)`, the share of this replica; n is the same on all.

    Returns:
        Tensor `(replicas * n, ...)`, the same on every replica.
    """
    context = _replica_context()
    if context is None:
        return x
    # Several processes gather towards the tensor's device, which what comes from the data lacks.
    gathered = context.all_gather(tf.identity(x), axis=0)
    rows = None if x.shape[0] is None else x.shape[0] * num_replicas()
    gathered.set_shape((rows, *x.shape[1:]))
    # Where rows are picked from it, its gradient is sparse, which collectives cannot sum.
    return tf.custom_gradient(lambda dense: (dense, tf.convert_to_tensor))(gathered)


def local_rows(x):
    """The share of this replica of `x`, a tensor `(replicas * n, ...)` equal on all replicas."""
    context = _replica_context()
    if context is None:
        return x
    share = x.shape[0] // num_replicas()
    start = share * context.replica_id_in_sync_group
    rows = x[start : start + share]
    rows.set_shape((share, *x.shape[1:]))
    return rows


def local_groups(rows: int, groups: int):
    """Which group each row of this replica belongs to, the global batch being cut into `groups`.

    Args:
        rows: n, rows of this replica.
        groups: number of consecutive groups of one size.

    Returns:
        float32 tensor `(n, groups)`, one-hot.
    """
    context = _replica_context()
    replica = 0 if context is None else context.replica_id_in_sync_group
    places = replica * rows + keras.ops.arange(rows, dtype="int32")
    size = rows * num_replicas() // groups
    return keras.ops.one_hot(places // size, groups, dtype="float32")


def read_rows(variable, indices):
    """Rows of `variable` that `indices` name, at the cost of these rows.

    `keras.ops.take` reads all of a TensorFlow variable whenever the step writes to it, too; of one
    whose rows are written that is a copy.

    Args:
        variable: `keras.Variable` `(size, ...)`, made with `aggregation="none"` if it is written.
        indices: integer tensor of any shape, in [0, size).

    Returns:
        Tensor `(*indices.shape, ...)`.
    """
    if _TENSORFLOW:
        return tf.gather(_own_copy(variable), indices)
    return keras.ops.take(variable, indices, axis=0)


def write_rows(variable, indices, rows) -> None:
    """Write `rows` over those rows of `variable` that `indices` name, at the cost of these rows.

    Every replica writes its own copy, so all must write the same.

    Args:
        variable: `keras.Variable` `(size, ...)` that is not trained, made with
            `aggregation="none"`.
        indices: integer tensor `(n,)` without repeats.
        rows: tensor `(n, ...)`.
    """
    rows = keras.ops.cast(rows, variable.dtype)
    if _TENSORFLOW:
        _own_copy(variable).scatter_update(tf.IndexedSlices(rows, indices))
    else:
        variable.assign(keras.ops.scatter_update(variable, indices[:, None], rows))


def _own_copy(variable):
    """The copy that this replica holds, a `tf.Variable`."""
    copies = tf.distribute.get_strategy().experimental_local_results(variable.value)
    context = _replica_context()
    replica = tf.get_static_value(context.replica_id_in_sync_group) if context else 0
    return copies[replica % len(copies)]


def replica_mean(x):
    """Mean of `x` over the replicas; differentiable."""
    context = _replica_context()
    return x if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def replica_sum(tensors):
    """Sums over the replicas of each tensor of a list, in one collective; differentiable."""
    context = _replica_context()
    if context is None:
        return tensors
    dense = [tf.convert_to_tensor(x) for x in tensors]  # gradients of gathered rows are sparse
    return context.all_reduce(tf.distribute.ReduceOp.SUM, dense)


def global_moments(x, axes):
    """Mean and biased variance of `x` over `axes` and over all replicas.

    Every replica contributes its own mean and its own variance around that mean, and these are
    merged (Chan et al. 1979): one collective of `2 C + 1` numbers a replica, and no difference of
    large squares.

    Args:
        x: tensor with channels last.
        axes: the axes to reduce, all but the last.

    Returns:
        Two float32 tensors `(C,)`.
    """
    x = keras.ops.cast(x, "float32")
    mean, variance = keras.ops.moments(x, axes=axes)
    if _replica_context() is None:
        return mean, variance
    shape = tf.shape(x)
    count = tf.cast(tf.reduce_prod(tf.gather(shape, list(axes))), "float32")
    share = tf.concat([count[None], mean, variance], axis=0)[None]
    shares = all_gather(share)
    counts, means, variances = tf.split(shares, [1, mean.shape[0], variance.shape[0]], axis=1)
    weights = counts / tf.reduce_sum(counts)
    mean = tf.reduce_sum(weights * means, axis=0)
    return mean, tf.reduce_sum(weights * (variances + tf.square(means - mean)), axis=0)


def fused_batch_norm(x, gamma, beta, epsilon: float, local: bool = False):
    """Normalise `(B, H, W, C)` by its own statistics, in one kernel.

    `local` says that the statistics of this replica's share are wanted.

    Returns:
        `(y, mean, variance)`, the variance biased, or None where the kernel does not apply: another
        backend, several replicas (the statistics must be global) or another rank.
    """
    if not _TENSORFLOW or len(x.shape) != 4 or (num_replicas() > 1 and not local):
        return None
    y, mean, unbiased, _, _, _ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    shape = tf.shape(x)
    count = tf.cast(shape[0] * shape[1] * shape[2], unbiased.dtype)
    return y, mean, unbiased * (tf.maximum(count, 2.0) - 1.0) / tf.maximum(count, 2.0)


def matmul_float32(x, w):
    """Product of two matrices with all bits of float32, for maps that are to be inverted.

    On recent GPUs TensorFlow and JAX take float32 for TF32 in products by default: 10 bits of each
    factor, which networks do not feel.

    Args:
        x: `(n, a)`.
        w: `(a, b)`, of the same dtype.

    Returns:
        `(n, b)`.
    """
    if not _TENSORFLOW:
        return jax.numpy.matmul(x, w, precision="highest")
    if _accelerators() and tf.config.experimental.tensor_float_32_execution_enabled():
        return tf.cast(tf.matmul(tf.cast(x, "float64"), tf.cast(w, "float64")), x.dtype)
    return tf.matmul(x, w)


def parallel_devices() -> int:
    """Number of devices that share a global batch, whatever the backend calls them."""
    if _TENSORFLOW:
        return num_replicas()
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]


def per_worker_dataset(make_dataset: Callable, strategy=None):
    """What `fit` iterates over, of a maker of per-replica batches.

    Args:
        make_dataset: function `(num_workers, worker, replicas_per_worker) -> tf.data.Dataset`.
        strategy: the strategy of the model; the current one by default.

    Returns:
        A `tf.data.Dataset`, or a distributed dataset under a strategy with several replicas.
    """
    if not _TENSORFLOW:
        return make_dataset(1, 0, 1)  # the compiler divides each global batch among the devices
    strategy = strategy or tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return make_dataset(1, 0, 1)

    def per_worker(context):
        workers = context.num_input_pipelines
        dataset = make_dataset(
            workers, context.input_pipeline_id, strategy.num_replicas_in_sync // workers
        )
        # Streams do not end; said so, batches keep their static size in several processes, too.
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return strategy.distribute_datasets_from_function(per_worker)


def in_multi_worker() -> bool:
    """Whether several processes train together."""
    return _TENSORFLOW and is_multi_worker(tf.distribute.get_strategy())


def resolve(strategy="auto"):
    """The strategy that a word stands for.

    Several processes must be set up before TensorFlow runs its first operation, so call this first.

    Args:
        strategy: `"auto"`: the processes that TF_CONFIG describes, if there are several, else all
            accelerators of this machine; `"one"`: one device; or a `tf.distribute.Strategy`
            (TensorFlow) or `keras.distribution.DataParallel` (JAX), which passes unchanged.

    Returns:
        A strategy, or None for one device.

    Raises:
        ValueError: if the word is unknown.
        RuntimeError: if TensorFlow has been used before several processes were set up.
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy not in ("auto", "one"):
        raise ValueError(
            "`strategy` must be 'auto', 'one' or a strategy object. Received: "
            f"strategy={strategy!r}."
        )
    if strategy == "one":
        return None
    if processes() > 1:
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise RuntimeError(
                "TF_CONFIG describes several processes, but TensorFlow has been used already in "
                f"this one: {error} Call `pretrain` first in each process, or make the strategy "
                "yourself at the start and pass it."
            ) from error
    accelerators = [d for d in keras.distribution.list_devices() if not d.startswith("cpu")]
    if len(accelerators) < 2:
        return None
    return tf.distribute.MirroredStrategy() if _TENSORFLOW else keras.distribution.DataParallel()


def scope(strategy="auto"):
    """The scope in which to make a model that trains on several devices.

    Args:
        strategy: as `resolve` takes it, or None for one device.

    Returns:
        A context manager.
    """
    strategy = resolve(strategy)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def is_chief(strategy=None) -> bool:
    """Whether this process is the one that writes files; true where there is one process alone."""
    if not is_multi_worker(strategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def check_agreement(number: int, strategy, what: str) -> None:
    """Raise unless `number`, which `what` describes, is the same in all processes of `strategy`."""
    if not is_multi_worker(strategy):
        return

    @tf.function
    def gather():
        context = tf.distribute.get_replica_context()
        return context.all_gather(tf.constant([number]), axis=0)

    found = strategy.experimental_local_results(strategy.run(gather))[0].numpy().tolist()
    if len(set(found)) > 1:
        raise ValueError(
            f"All processes must see the same {what}. Received: {found}. Put the folder on a "
            "storage that all of them read, under the same path."
        )


def is_multi_worker(strategy) -> bool:
    """Whether `strategy` is one of several processes that train together."""
    return _TENSORFLOW and isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def processes() -> int:
    """Processes that train together as TF_CONFIG describes them; 0 without it."""
    if not _TENSORFLOW:
        return 0
    jobs = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().as_dict()
    return sum(len(addresses) for job, addresses in jobs.items() if job in ("chief", "worker"))


@contextlib.contextmanager
def forgetting_graphs():
    """After it TensorFlow lets go of steps traced within it, whose models are of no use any more.

    Sums over replicas put a gradient function for each traced step into a registry of TensorFlow
    that never forgets, and the function holds the whole graph: tens of MB a model.
    """
    registry = _gradient_functions() if _TENSORFLOW else {}
    before = set(registry)
    try:
        yield
    finally:
        for name in set(registry) - before:
            if name.startswith("CustomGradient-"):
                del registry[name]


def _gradient_functions() -> dict:
    """The registry of gradient functions; empty where this TensorFlow keeps it in another place."""
    found = getattr(getattr(_framework, "gradient_registry", None), "_registry", {})
    return found if isinstance(found, dict) else {}


def forget_peaks() -> None:
    """Let `device_memory` count anew, where the backend can: JAX cannot."""
    for name in _accelerators():
        tf.config.experimental.reset_memory_stats(name)


def device_memory() -> dict[str, tuple[int, int | None]]:
    """Memory of the accelerators, by name; empty where there are none.

    Returns:
        The most bytes that were in use at once, and how many this process may use; None for the
        latter where the backend does not tell.
    """
    if _TENSORFLOW:
        limits = _memory_limits()
        peak = tf.config.experimental.get_memory_info
        return {name: (peak(name)["peak"], limits.get(name)) for name in _accelerators()}
    found = {str(device): device.memory_stats() for device in jax.local_devices()}
    return {
        name: (stats["peak_bytes_in_use"], stats.get("bytes_limit"))
        for name, stats in found.items()
        if stats and "peak_bytes_in_use" in stats
    }


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` says that a device, or this process, could not get memory."""
    known = (MemoryError, tf.errors.ResourceExhaustedError) if _TENSORFLOW else MemoryError
    return isinstance(error, known) or "RESOURCE_EXHAUSTED" in str(error)


def _accelerators() -> list[str]:
    """Names such as "GPU:0"; on TensorFlow alone."""
    devices = tf.config.list_logical_devices("GPU") if _TENSORFLOW else []
    return [device.name.rpartition("device:")[2] for device in devices]


def _memory_limits() -> dict[str, int]:
    """What TensorFlow's allocators may take, by device; empty where this version does not tell."""
    try:
        context = _context.context()
        context.ensure_initialized()
        devices = _eager.TFE_ContextListDevices(context._handle)
        places = range(_eager.TF_DeviceListCount(devices))
        names = [_eager.TF_DeviceListName(devices, i).rpartition("device:")[2] for i in places]
        return {n: _session.TF_DeviceListMemoryBytes(devices, i) for i, n in enumerate(names)}
    except (AttributeError, TypeError):
        return {}
