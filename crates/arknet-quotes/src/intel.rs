//! SGX and TDX: quotes by Intel's DCAP, as `dcap-qvl` checks them.

mod collateral;

use arknet_chain::{Hash, Purpose, QuoteFacts, TcbStatus, TeePlatform};
use arknet_types::Timestamp;
use dcap_qvl::{
    QuotePolicy,
    quote::{Report, TDReport10},
    verify::QuoteVerifier,
};

use self::collateral::Collateral;
pub(crate) use self::collateral::pack;
use crate::QuoteError;

const MS_PER_SECOND: u64 = 1_000;

pub(crate) fn check(
    platform: TeePlatform,
    quote: &[u8],
    collateral: &[u8],
    now: Timestamp,
) -> Result<QuoteFacts, QuoteError> {
    let collateral = Collateral::parse(collateral)?.unpack();
    let now_secs = now.0 / MS_PER_SECOND;
    // Which statuses count is decided below, where it can be read; all the rest holds by then.
    let everything = QuotePolicy::claims_only(now_secs);
    let claims = QuoteVerifier::new_prod()
        .verify_with_policy(quote, collateral, now_secs, &everything)
        .map_err(|error| QuoteError::Unproven(format!("{error:#}")))?;
    let (report_data, measurement) = match (platform, &claims.report) {
        (TeePlatform::Sgx, Report::SgxEnclave(report)) => {
            (report.report_data, Hash(report.mr_enclave))
        }
        (TeePlatform::Tdx, report) => {
            let report = report.as_td10().ok_or(QuoteError::Form)?;
            (report.report_data, measurement(report))
        }
        _ => return Err(QuoteError::Form),
    };
    Ok(QuoteFacts {
        report_data,
        measurement,
        tcb: counting(claims.tcb.status)?,
        expires_at: Timestamp(claims.earliest_expiration_date.saturating_mul(MS_PER_SECOND)),
    })
}

/// What runs in a TD: what was loaded, what its owner and its configuration are, and what it
/// measured since.
fn measurement(report: &TDReport10) -> Hash {
    let parts = [
        report.mr_td,
        report.mr_config_id,
        report.mr_owner,
        report.mr_owner_config,
        report.rt_mr0,
        report.rt_mr1,
        report.rt_mr2,
        report.rt_mr3,
    ];
    Hash::of_bytes(Purpose::MEASUREMENT, parts.as_flattened())
}

/// The statuses with which a machine counts. Without the vendor's fixes it does not, nor does a TD
/// that began without them.
fn counting(status: dcap_qvl::TcbStatus) -> Result<TcbStatus, QuoteError> {
    use dcap_qvl::TcbStatus as Intel;
    match status {
        Intel::UpToDate => Ok(TcbStatus::UpToDate),
        Intel::SWHardeningNeeded => Ok(TcbStatus::SwHardeningNeeded),
        Intel::ConfigurationNeeded => Ok(TcbStatus::ConfigurationNeeded),
        Intel::ConfigurationAndSWHardeningNeeded => {
            Ok(TcbStatus::ConfigurationAndSwHardeningNeeded)
        }
        Intel::OutOfDate
        | Intel::OutOfDateConfigurationNeeded
        | Intel::TDRelaunchAdvised
        | Intel::TDRelaunchAdvisedConfigurationNeeded
        | Intel::Revoked => Err(QuoteError::Tcb(status.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use dcap_qvl::TcbStatus as Intel;

    use super::*;

    #[test]
    fn a_machine_without_the_fixes_does_not_count() {
        for status in [
            Intel::OutOfDate,
            Intel::OutOfDateConfigurationNeeded,
            Intel::TDRelaunchAdvised,
            Intel::TDRelaunchAdvisedConfigurationNeeded,
            Intel::Revoked,
        ] {
            assert_eq!(counting(status), Err(QuoteError::Tcb(status.to_string())));
        }
    }
}
