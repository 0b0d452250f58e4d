//! A BTCPay server, by its Greenfield invoices.

use crate::channels::build::required;
use crate::channels::{Channel, Credentials};

/// A store of a BTCPay server.
pub(super) struct BtcpayChannel;

impl BtcpayChannel {
    /// Credentials: `api_key` and `store_id`.
    ///
    /// # Errors
    /// A sentence, when one is missing.
    pub(super) fn new(credentials: &Credentials) -> Result<Self, String> {
        required(credentials, "api_key")?;
        required(credentials, "store_id")?;
        Ok(Self)
    }
}

impl Channel for BtcpayChannel {
    fn methods(&self) -> &'static [&'static str] {
        &["crypto"]
    }
}
