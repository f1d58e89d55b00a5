"""Kernels in Triton that mix a batch on a GPU: one for the inputs, one for scaling, one for labels.

Each does what functions of torch do elsewhere (``apply_plan``, ``join_labels``), in one launch.
With TRITON_INTERPRET=1, set before Triton is imported, they run on a CPU, for tests.

Importing this module imports Triton, which comes with torch's builds for CUDA.

Shapes: B batch, P mix pool, N = B + P examples, S sources, C classes, F label frames.
"""

import triton
import triton.language as tl


@triton.jit
def fill_kernel(out, block_size: tl.constexpr):
    """Write 0 to the first cells of a tensor: shows whether kernels run at all.

    Args:
        out: Any tensor.
        block_size: Number of cells, a power of 2.
    """
    tl.store(out + tl.arange(0, block_size), tl.zeros((block_size,), out.dtype.element_ty))


@triton.jit
def mix_inputs_kernel(
    x,
    pool,
    out,
    source,
    gain,
    offset,
    box,
    block_statistics,
    batch_size,
    num_cells,
    num_times,
    time_stride,
    num_mels,
    mel_stride,
    num_sources: tl.constexpr,
    has_pool: tl.constexpr,
    has_shift: tl.constexpr,
    has_box: tl.constexpr,
    statistic: tl.constexpr,
    block_size: tl.constexpr,
):
    """Write a block of cells of one mixed example, and the statistics that its scaling needs.

    Programs: [B, blocks of an example]. Those of one block run at about the same time, so that a
    cell that several examples read comes from the cache. Sources of gain 0 are not read.

    Args:
        x: Batch, B rows of ``num_cells``, float32, float16 or bfloat16.
        pool: Mix pool, P rows, laid out alike.
        out: Mixed examples, laid out as x.
        source: Indices in the batch followed by the pool, int64 [B, S].
        gain: Linear gains, float32 [B, S].
        offset: Shifts in time in cells, int64 [B, S]; read if ``has_shift``.
        box: Begin and end in time and in mel, in cells, int64 [B, 4]; read if ``has_box``.
        block_statistics: Peak, or mean and sum of squared differences to it, of each block, float32
            [B, blocks, 2]; written if ``statistic`` is peak or moments.
        batch_size: B.
        num_cells: Cells of one example.
        num_times: Length of the time axis.
        time_stride: Distance in memory of two cells that follow each other in time.
        num_mels: Length of the mel axis.
        mel_stride: Distance in memory of two cells that follow each other in mel.
        num_sources: S.
        has_pool: Whether sources may come from the pool.
        has_shift: Whether sources are shifted in time, around the end.
        has_box: Whether the second source fills a box, and the first the rest.
        statistic: none, peak or moments.
        block_size: Cells of a block, a power of 2.
    """
    example = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    cell = block * block_size + tl.arange(0, block_size)
    if has_shift or has_box:
        time = (cell // time_stride) % num_times
    if has_box:
        bounds = box + example * 4
        mel = (cell // mel_stride) % num_mels
        in_box = (time >= tl.load(bounds)) & (time < tl.load(bounds + 1))
        in_box = in_box & (mel >= tl.load(bounds + 2)) & (mel < tl.load(bounds + 3))
    mixed = tl.zeros((block_size,), tl.float32)
    for slot in tl.static_range(num_sources):
        source_gain = tl.load(gain + example * num_sources + slot)
        if source_gain != 0:
            index = tl.load(source + example * num_sources + slot)
            position = cell
            if has_shift and slot > 0:
                shifted = (time - tl.load(offset + example * num_sources + slot)) % num_times
                shifted = tl.where(shifted < 0, shifted + num_times, shifted)
                position = cell + (shifted - time) * time_stride
            is_read = cell < num_cells
            if has_box and slot == 1:
                is_read = is_read & in_box
            if has_pool and slot > 0:
                if index < batch_size:
                    value = tl.load(x + index * num_cells + position, mask=is_read, other=0)
                else:
                    row = pool + (index - batch_size) * num_cells
                    value = tl.load(row + position, mask=is_read, other=0)
            else:
                value = tl.load(x + index * num_cells + position, mask=is_read, other=0)
            claim = value.to(tl.float32) * source_gain
            if has_box and slot == 1:
                mixed = tl.where(in_box, claim, mixed)
            else:
                mixed += claim
    result = mixed.to(out.dtype.element_ty)
    tl.store(out + example * num_cells + cell, result, mask=cell < num_cells)
    if statistic != "none":
        value = tl.where(cell < num_cells, result.to(tl.float32), 0)
        entry = block_statistics + (example * tl.num_programs(1) + block) * 2
        if statistic == "peak":
            # NaN makes the sum NaN, and not the maximum.
            tl.store(entry, tl.max(tl.abs(value), 0) + 0 * tl.sum(value, 0))
        else:
            count = tl.minimum(num_cells - block * block_size, block_size)
            mean = tl.sum(value, 0) / count
            difference = tl.where(cell < num_cells, value - mean, 0)
            tl.store(entry, mean)
            tl.store(entry + 1, tl.sum(difference * difference, 0))


@triton.jit
def scale_kernel(
    out,
    gain,
    block_statistics,
    factor,
    num_cells,
    num_blocks,
    min_peak,
    epsilon,
    num_sources: tl.constexpr,
    statistic: tl.constexpr,
    max_blocks: tl.constexpr,
    block_size: tl.constexpr,
):
    """Scale a block of one mixed example by the statistics of all its blocks, in place.

    Programs: [B, blocks of an example]. Examples without a mix stay as they are.

    Args:
        out: Mixed examples, B rows of ``num_cells``; scaled.
        gain: Linear gains, float32 [B, S].
        block_statistics: As written by ``mix_inputs_kernel``, [B, blocks, 2].
        factor: Factor of each example, float32 [B]; written.
        num_cells: Cells of one example.
        num_blocks: Blocks of one example.
        min_peak: Peaks below it are treated as it.
        epsilon: Added to standard deviations.
        num_sources: S.
        statistic: peak scales the peak to 1, moments mean and deviation to 0 and 1.
        max_blocks: ``num_blocks`` or more, a power of 2.
        block_size: Cells of a block, a power of 2.
    """
    example = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    num_used = 0
    for slot in tl.static_range(num_sources):
        num_used += tl.where(tl.load(gain + example * num_sources + slot) != 0, 1, 0)
    scale = 1.0
    if num_used > 1:
        index = tl.arange(0, max_blocks)
        entry = block_statistics + (example * num_blocks + index) * 2
        cell = block * block_size + tl.arange(0, block_size)
        cells = out + example * num_cells + cell
        value = tl.load(cells, mask=cell < num_cells, other=0).to(tl.float32)
        if statistic == "peak":
            peaks = tl.load(entry, mask=index < num_blocks, other=0)
            peak = tl.max(peaks, 0) + 0 * tl.sum(peaks, 0)
            scale = 1 / tl.maximum(peak, min_peak, propagate_nan=tl.PropagateNan.ALL)
        else:
            count = tl.minimum(tl.maximum(num_cells - index * block_size, 0), block_size)
            block_mean = tl.load(entry, mask=index < num_blocks, other=0)
            squares = tl.load(entry + 1, mask=index < num_blocks, other=0)
            mean = tl.sum(block_mean * count, 0) / num_cells
            difference = block_mean - mean
            total = tl.sum(squares + count * difference * difference, 0)
            deviation = tl.sqrt(total / tl.maximum(num_cells - 1, 1))
            value -= mean
            scale = 1 / (deviation + epsilon)
        tl.store(cells, (value * scale).to(out.dtype.element_ty), mask=cell < num_cells)
    if block == 0:
        tl.store(factor + example, scale)


@triton.jit
def _at_most_one(values):
    """Return values limited to 1; NaN stays NaN."""
    return tl.minimum(values, 1, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _add_claim(mixed, claim, is_first: tl.constexpr, join: tl.constexpr):
    """Return what claims so far and one more join to."""
    if is_first:
        joined = claim
    elif join == "max":
        joined = tl.maximum(mixed, claim, propagate_nan=tl.PropagateNan.ALL)
    elif join == "noisy_or":
        joined = 1 - (1 - mixed) * (1 - claim)
    else:
        joined = mixed + claim
    return joined


@triton.jit
def join_labels_kernel(
    target,
    known,
    weight,
    source,
    share,
    part,
    factor,
    offset,
    out_target,
    out_known,
    out_weight,
    num_cells,
    num_frames,
    num_share_frames,
    tolerance,
    num_sources: tl.constexpr,
    join: tl.constexpr,
    has_known: tl.constexpr,
    has_weight: tl.constexpr,
    has_factor: tl.constexpr,
    has_shift: tl.constexpr,
    block_size: tl.constexpr,
):
    """Join the labels of the sources of one example: targets, known masks and sample weights.

    Programs: [B, blocks of an example's labels]. Sources of share 0 are not read.

    Args:
        target: Targets of batch and pool, [N, C, F], floating; F is 1 for targets of whole
            examples.
        known: Which of them are known, uint8 [N, C, F]; read if ``has_known``.
        weight: Sample weights of batch and pool, [N]; read if ``has_weight``.
        source: Indices in the batch followed by the pool, int64 [B, S].
        share: Shares, float32 [B, S, ``num_share_frames``].
        part: Part of the mix that each source is, float32 [B, S].
        factor: Factors of the shares and, for unknown labels as 0 and as 1, smallest and largest
            ones, float32 [3, B, S]; read if ``has_factor``.
        offset: Shifts in time in label frames, int64 [B, S]; read if ``has_shift``.
        out_target: Joined targets, [B, C, F].
        out_known: Joined known mask, uint8 [B, C, F].
        out_weight: Joined sample weights, [B].
        num_cells: C F.
        num_frames: F.
        num_share_frames: F, or 1 if all frames of a source have one share.
        tolerance: Difference of the targets for unknown labels as 0 and as 1 up to which a label is
            known.
        num_sources: S.
        join: sum, max or noisy_or.
        has_known: Whether there is a known mask.
        has_weight: Whether there are sample weights.
        has_factor: Whether shares are multiplied by factors.
        has_shift: Whether sources are shifted in time.
        block_size: Labels of a block, a power of 2.
    """
    example = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    cell = block * block_size + tl.arange(0, block_size)
    is_label = cell < num_cells
    frame = cell % num_frames
    joined = tl.zeros((block_size,), tl.float32)
    lowest = tl.zeros((block_size,), tl.float32)
    highest = tl.zeros((block_size,), tl.float32)
    for slot in tl.static_range(num_sources):
        entry = example * num_sources + slot
        index = tl.load(source + entry)
        position = cell
        share_frame = tl.where(num_share_frames > 1, frame, 0)
        slot_share = tl.load(
            share + entry * num_share_frames + share_frame, mask=is_label, other=0
        ).to(tl.float32)
        if has_shift and slot > 0:
            shifted = (frame - tl.load(offset + entry)) % num_frames
            shifted = tl.where(shifted < 0, shifted + num_frames, shifted)
            position = cell + shifted - frame
        is_read = is_label & tl.where(slot_share > 0, 1, 0).to(tl.int1)
        value = tl.load(target + index * num_cells + position, mask=is_read, other=0)
        value = value.to(tl.float32)
        claim = value * slot_share
        if has_factor:
            # Factors above 1 may carry a claim above 1.
            claim = _at_most_one(claim * tl.load(factor + entry))
        joined = _add_claim(joined, claim, slot == 0, join)
        if has_known:
            is_known = tl.load(known + index * num_cells + position, mask=is_read, other=1)
            low_claim = tl.where(is_known != 0, value, 0) * slot_share
            high_claim = tl.where(is_known != 0, value, 1) * slot_share
            if has_factor:
                num_entries = tl.num_programs(0) * num_sources
                low_claim = _at_most_one(low_claim * tl.load(factor + num_entries + entry))
                high_claim = _at_most_one(high_claim * tl.load(factor + 2 * num_entries + entry))
            lowest = _add_claim(lowest, low_claim, slot == 0, join)
            highest = _add_claim(highest, high_claim, slot == 0, join)
    joined = _at_most_one(joined)
    output = example * num_cells + cell
    tl.store(out_target + output, joined.to(out_target.dtype.element_ty), mask=is_label)
    if has_known:
        is_close = _at_most_one(highest) - _at_most_one(lowest) <= tolerance
        tl.store(out_known + output, tl.where(is_close, 1, 0).to(tl.uint8), mask=is_label)
    if has_weight and block == 0:
        mean = 0.0
        for slot in tl.static_range(num_sources):
            entry = example * num_sources + slot
            index = tl.load(source + entry)
            mean += tl.load(part + entry) * tl.load(weight + index).to(tl.float32)
        tl.store(out_weight + example, mean.to(out_weight.dtype.element_ty))
