//! What payments and pre-auths are listed by, beside their status.

use clap::Args;

/// Flags of lists of payments and pre-auths.
#[derive(Debug, Args)]
pub(super) struct ListFilter {
    /// Of this merchant, m_…
    #[arg(long, value_name = "ID")]
    merchant: Option<String>,
    /// On this channel
    #[arg(long)]
    channel: Option<String>,
    /// With this order number of the merchant's
    #[arg(long = "order", value_name = "NO")]
    order_no: Option<String>,
    /// Made at or after this, such as 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Made before this
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl ListFilter {
    /// The parameters of a request for those that are also in `status`, if it is given.
    pub(super) fn query<'a>(&'a self, status: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
        let given = [
            ("merchant_id", self.merchant.as_deref()),
            ("status", status),
            ("channel", self.channel.as_deref()),
            ("order_no", self.order_no.as_deref()),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
