//! Counts as fractions, and fractions as counts.

/// A count, to reckon with.
#[allow(clippy::cast_precision_loss, reason = "counts here stay far below 2^52")]
pub(super) fn float(count: usize) -> f64 {
    count as f64
}

/// The nearest count; nothing below zero, and the largest for what is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of fractions saturate")]
pub(super) fn count(value: f64) -> usize {
    if value.is_nan() { usize::MAX } else { value.round() as usize }
}
