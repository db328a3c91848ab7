//! What a session gets of the slots, of what it asks for.

use crate::failure::{Failure, Kind};
use crate::scheduler::{Share, Weight};
use crate::settings::ShareOptions;

/// The share of a session that asks for this weight and for so many batches at
/// once; zeros ask for nothing.
pub(crate) fn share(
    weight: f64,
    max_running: u32,
    options: ShareOptions,
) -> Result<Share, Failure> {
    let refused = |why: String| Failure::new(Kind::QuotaExceeded, why);
    let most = options.max_weight;
    let weight = if weight == 0.0 {
        Weight::ONE.min(most)
    } else {
        Weight::new(weight)
            .map_err(|error| refused(format!("`weight` cannot be {weight}: {error}")))?
    };
    if weight > most {
        let (weight, most) = (weight.get(), most.get());
        let why = format!(
            "`weight` cannot be {weight}: the agent's setting `max-session-weight` is {most}"
        );
        return Err(refused(why));
    }
    let asked = (max_running > 0).then_some(max_running);
    let max_running = [asked, options.max_slots].into_iter().flatten().min();
    Ok(Share { weight, max_running })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(max_weight: f64, max_slots: Option<u32>) -> ShareOptions {
        ShareOptions { max_weight: Weight::new(max_weight).unwrap(), max_slots }
    }

    #[test]
    fn a_session_gets_what_it_asks_for_and_the_agent_allows() {
        let ours = options(4.0, Some(3));
        let got = |weight, most| share(weight, most, ours).unwrap();
        assert_eq!(got(0.0, 0), Share { max_running: Some(3), ..Share::default() });
        assert_eq!(got(4.0, 2), Share { weight: Weight::new(4.0).unwrap(), max_running: Some(2) });
        assert_eq!(got(0.5, 9).max_running, Some(3));
        assert_eq!(share(1.0, 0, options(4.0, None)).unwrap(), Share::default());
        let half = options(0.5, None);
        assert_eq!(share(0.0, 0, half).unwrap().weight, half.max_weight);
    }

    #[test]
    fn an_absurd_weight_is_refused_by_name_and_value() {
        for (weight, named) in [
            (-1.0, "`weight` cannot be -1: a weight is a number from 0.01 to 100"),
            (f64::NAN, "`weight` cannot be NaN"),
            (f64::INFINITY, "`weight` cannot be inf"),
            (1e-9, "`weight` cannot be 0.000000001"),
            (101.0, "`weight` cannot be 101"),
            (5.0, "`weight` cannot be 5: the agent's setting `max-session-weight` is 4"),
        ] {
            let failure = share(weight, 0, options(4.0, None)).unwrap_err();
            assert_eq!(failure.kind, Kind::QuotaExceeded);
            assert!(failure.message.starts_with(named), "{}", failure.message);
        }
    }
}
