//! Durations as integers of 32 bits in the order of the durations: what percentiles are made of.
//!
//! Percentiles are answered with three digits behind the point, so thousandths are all that is kept of durations up to
//! [`MAX_THOUSANDTHS`], about 18 minutes. Longer ones keep 24 bits: whole milliseconds up to four hours.

/// Durations from here on are kept as the bits of a number.
const MAX_THOUSANDTHS: i32 = 1 << 30;
const IN_ONE: f64 = 1000.0;

/// The key of a duration in milliseconds.
pub fn key_of(ms: f64) -> i32 {
    // Rounded as percentiles are, away from zero, without a call.
    let thousandths = ms.abs() * IN_ONE + 0.5;
    let key = if thousandths < f64::from(MAX_THOUSANDTHS) {
        thousandths as i32
    } else {
        MAX_THOUSANDTHS + ((ms.abs() as f32).to_bits().saturating_sub(first_bits()) as i32)
    };
    if ms < 0.0 { -key } else { key }
}

/// A duration with this key, in milliseconds.
pub fn ms_of(key: i32) -> f64 {
    let above = key.unsigned_abs().checked_sub(MAX_THOUSANDTHS as u32);
    let ms = match above {
        None => f64::from(key.unsigned_abs()) / IN_ONE,
        Some(above) => f64::from(f32::from_bits(first_bits() + above)),
    };
    if key < 0 { -ms } else { ms }
}

fn first_bits() -> u32 {
    (MAX_THOUSANDTHS as f32 / IN_ONE as f32).to_bits()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_keep_thousandths_and_whole_milliseconds_of_hours() {
        for ms in [0.0, 0.001, 8_388.609, 123_456.789, 1_073_741.823, -17.5, 4_000_000.0, 16_000_001.0, f64::INFINITY] {
            assert_eq!(ms_of(key_of(ms)), ms, "{ms}");
        }
        assert_eq!([0.0004, 0.0005, -0.0004].map(|ms| ms_of(key_of(ms))), [0.0, 0.001, 0.0]);
    }

    proptest! {
        #[test]
        fn keys_have_the_order_of_durations_and_give_them_back(
            a in prop_oneof![-1e7f64..1e7, any::<f64>()], b in prop_oneof![-1e7f64..1e7, any::<f64>()],
        ) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert!(a.partial_cmp(&b) == Some(key_of(a).cmp(&key_of(b))) || key_of(a) == key_of(b));
            let (back, most) = (ms_of(key_of(a)), 0.000_500_1f64.max(a.abs() * 1e-7));
            prop_assert!((back - a).abs() <= most || back == f64::INFINITY.copysign(a), "{} {}", a, back);
        }
    }
}
