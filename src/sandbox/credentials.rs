//! The emulators' credentials. They are fixed and public, so that any client can be pointed at an emulator; they open
//! nothing else.

use crate::config::ChannelKind;

/// Secret key of the Stripe emulator.
pub const STRIPE_SECRET_KEY: &str = "sk_test_tollgate_sandbox";
/// Secret with which the Stripe emulator signs what it sends of its own accord.
pub const STRIPE_WEBHOOK_SECRET: &str = "whsec_tollgate_sandbox";
/// Client id of the PayPal emulator.
pub const PAYPAL_CLIENT_ID: &str = "tollgate-sandbox-client";
/// Client secret of the PayPal emulator.
pub const PAYPAL_CLIENT_SECRET: &str = "tollgate-sandbox-secret";
/// Id of the PayPal emulator's webhook, which its signatures cover.
pub const PAYPAL_WEBHOOK_ID: &str = "WH-TOLLGATE-SANDBOX";
/// The PayPal emulator's merchant account.
pub const PAYPAL_MERCHANT_ID: &str = "TOLLGATESANDBOX";
/// API key of the BTCPay emulator.
pub const BTCPAY_API_KEY: &str = "tollgate-sandbox-key";
/// Store of the BTCPay emulator.
pub const BTCPAY_STORE_ID: &str = "TollgateSandboxStore";
/// Secret with which the BTCPay emulator signs what it sends of its own accord.
pub const BTCPAY_WEBHOOK_SECRET: &str = "tollgate-sandbox-webhook";
/// The Alipay emulator's seller.
pub const ALIPAY_SELLER_ID: &str = "2088000000000001";
/// Application id of the Alipay emulator.
pub const ALIPAY_APP_ID: &str = "2021000000000001";
/// The means of payment that stands in where a payment brings none.
pub const DEFAULT_PAYMENT_TOKEN: &str = "tok_visa";
/// Private key with which applications sign requests to the Alipay emulator: PKCS#8, RSA 2048, bare base64.
pub const ALIPAY_APP_PRIVATE_KEY: &str = "\
    MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCL8HaVj0fYzGKAzkIYQbaFn8W1RADwJW5wCBbk0sX0O/GS+rCB\
    RZLW0DOVokIwcWoWa5vtda4HhtAnd8ZtFiEOlZ/YdH/HDMaQdw9FEo5zjuSns3J1l3GBNelW2lgPS0E+leCVZeq6emrS8hI4BxJt\
    w1bgJaqSeRiXT8bcnV3EjgwND6ZOvooFA8h/gDu0ZAtArAWL3Dd5pfMFgkSzWcC/UKirxEr9VnF/D9itWaIAeEaIluhmgVO1j38w\
    9HSEwf9fAm4ngM/TIjemaNxF/9swiKAB+jfpfGW16N3VO+XEYn+FtIKfpWMzlrRrRdc2FujM50z3EK++XrNb1UIS3nqRAgMBAAEC\
    ggEAIbl3up9nHzZSXtxWTWY4yIcyrHaRC07aCKHKcqbhEfUISPWlZ+IOezp91Afgj7AlcvXIBDgiEqpIq9pPtaZpnQwuE4ov6RaJ\
    G/O1eF36eprrPAchBHnU3uDRNR81ranjNWQFVbvUD9DEwcWY4mvB4zX6T9aD/vy0EnMlZ7F9EYsW01ibjBhB0nxO4u4PO+4S/ONZ\
    +sBpQo1qX25Nrfo9XSblf9EJ/t2EyFcP3JlihbVkj29MFbQdO0Vly6myc3cCLIz4B3mI0K1AleZBEpcv9GZaPzFCi3QgId1f64sY\
    D19VW9xc7Xtw3JpelI0ysZ43/UPUcMHgMadd9QHcpq79KQKBgQDDB2yjbyhvPwI2jg/lMqqhfXvLwcdHhoSQ4YYC6phzqcW685yp\
    Z5ewd3nQ6Gc/AfO/cUdJDgRtf7d8ugFdzPNM2Q9h+1wU8CdO1R+bmx834XF9hxDIGyrJ70O7qmBcZHXlZP0EarjqV3qMN7M5nKJ8\
    ADEu8+XpBltpWLNOH3s1uwKBgQC3sBi0SEPlPYbhaRN1oKliUsJp/gpeejPg8ZC+MpETIbo3CTCEP69UPT1Er+NDE+oekGRo5pHs\
    SEdxehoup9WbrRdQLUkAGCS9ZFmj2diW7qTJwtqgUrueueFu6rg1Rsc2hbOOxkb50L5znytpMyF5rX8Typf5lttjvt1UtS9GIwKB\
    gEPNUPeArY3/WcWdnekQtEFwXpl3xNAY8/1qaiyZYmbTnupfxxcd7J5s6uy13y8IfrUPrLi5JtDqld/GyrLRjcQpsi9eM6UT2JaP\
    gW2XgELtHYeGbU8kIrwRcnrLwLReOJ6HfW8Lqz3NK82Tj7t3uQVjC7ZHFKbujtkQ/UUrrKoBAoGAXk8bX/R6Z4hfZ/v68bm7PbAg\
    AStdR4SWfjeIiR6NPbVjVj5xmnTYH/gRLOLhW98tpOOdqf43jYjOpYR7TNj+4x7LiW62vEWpF1QecfG3Mkb0dGKGvSm9CpGFHN2G\
    FlRwk52xwuwqJLj4D4T5VNnbpg1d4VtzC8JYga3NFWCxFOECgYB6ikwLvB8JeK75g1JHbyufNRS6EXQ4NUatJprmoAoGbYjju4CM\
    wIFExfscVKyapWCtwNF57hI05WJsBmBMeNM6FzxT2hLjRfuVmNsr/1QFMtv216JJyq8VxtUm/rM4F51c01SP0nTJs5kadS21USlT\
    Gjb3J5Jir7JzbhX64sHrBw==";
/// Public key with which the Alipay emulator checks requests.
pub const ALIPAY_APP_PUBLIC_KEY: &str = "\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAi/B2lY9H2MxigM5CGEG2hZ/FtUQA8CVucAgW5NLF9DvxkvqwgUWS1tAz\
    laJCMHFqFmub7XWuB4bQJ3fGbRYhDpWf2HR/xwzGkHcPRRKOc47kp7NydZdxgTXpVtpYD0tBPpXglWXqunpq0vISOAcSbcNW4CWq\
    knkYl0/G3J1dxI4MDQ+mTr6KBQPIf4A7tGQLQKwFi9w3eaXzBYJEs1nAv1Coq8RK/VZxfw/YrVmiAHhGiJboZoFTtY9/MPR0hMH/\
    XwJuJ4DP0yI3pmjcRf/bMIigAfo36Xxltejd1TvlxGJ/hbSCn6VjM5a0a0XXNhbozOdM9xCvvl6zW9VCEt56kQIDAQAB";
/// Private key with which the Alipay emulator signs its answers.
pub const ALIPAY_PRIVATE_KEY: &str = "\
    MIIEvwIBADANBgkqhkiG9w0BAQEFAASCBKkwggSlAgEAAoIBAQCq9mBlCr8BJ8QWADeLB2nNu8xGn80dKUIU04XUkvF3JoZV9H5q\
    /qdgVGa6Npin/FITbvqeRy7mDlW3PLAl3mwzX8nqyNT5A/4/zMqf5DEj2mfZECtrwNLKdcAm7BdHNFypGGTZGkGp3fUEyiChA0Os\
    +9sB7F1prNhuGD38TDLdQohNZrzl8wT0OM6JRLb8m+mMfWInmtg4GqDMxS7P8RMJTRnrmn6sPaxyWI8xp1/auQKo3thO8dX/B+AR\
    hXAz9/oai4nj/6BwOCNKCg4EDiB4ktTlbFJeMRzEeHoEoXfLrFv7bmgFrtqDrsasmgs6y5otEMmyUjSxUmpFvY4uX7QvAgMBAAEC\
    ggEANZuH4mcaOXyEqflrcTbj4FUQ2txk7s3vIKSrBFsHSDtWSEGgGmC7jyMoCx/vgk1GVz2nbFYZyJ2aFxj6iwVRnFJe+DX9QhAU\
    e2D18GkXV4y2n4PIecM+1alSlWHWcsdifstdZA4tpNwqZlQTIyno4Kcgp1u8dtRyESOc3C3wjRw5a+pjearEDJp+YTadY7OSQ9bD\
    v3h4bSZhuGvXAyi+PkxzwEtGSdEt6UBBqZYMihJ1sNWwDl+elXKhcju+ry2xlP9kNbM/aOOkLAkZhmjpfi+05cGvGnK7mimlZ13L\
    mr8K8lSLu5fH8ws4BVKDVJxhSTsS7CKyUCRBBScax2jlwQKBgQDterme4KbUbtpM1JAeAoeGTRZ26JcQGJmhgZCC2OYWKgQq4ptT\
    QFbrLUNH5xeJW78ksnk27iPTJyMEmo6RZxh+TNNTyPhzGc4FV2Rrh1F42fE5nutg9MTBbGofFHdkpW4Ik5OK68JLxdY3OX+z5klD\
    eSRprqaJJbvrtOjpXVszXwKBgQC4S6Phpr4nT3JZ/sow9BaOQg4aSE4nYJJG/RprJijxX5zSRizBq1dZOFl743Fj76DmKxMgUYk1\
    lOIBf7gys7RL9V8zU5EKwQl1hwyDeXFWofrWh5LyG5diVXlrca6Cj9MSPHwJeQ4S4S9/+IPlrfT/gXdfgD/iBgmJYtx3yfiBMQKB\
    gQC4Z5X/wx6I0tN82YpXY0tthCqvhwjWnOOfQAbBND/mchXuXyyRxuI3mFwoV1A1fyK8EkKB3wW+jyNoDcQrME0atflblDEo357V\
    EvmNbfRbzZC9V6QbE7Y9JDx7id70Lml1C3OEanHjeOpQ07tQLMAzPryBu/bhhIWaEE7T94Q8LQKBgQCe6HHFdx4NDT7fhIdY0I7G\
    WQSJ+wCQiX93gHQQIdY50iSJVwLud0wY3TKjVUkHT67f6BJU0plJvzdk7XipFzSGLmvI+OxeZnY+hZTvpH5qob6Ezl+RLONKYcMR\
    NvOvFk58MfUNwfi1pL9tS56HI4jV6w9AJHhw7p24far2CwugcQKBgQCsqocvZDpfua9Wfu2JnJCpyT2VH1KJtM7lNq4TqpoL1PuN\
    NzC9TJ/C9c4+aEPbSeCUHWknFn/IbzIZiG5x0U9BuPAlBC2s+kxPdUR2EKR2diJ0rMVje+taJsKp7jxtfUmXnurOLLNOvjZAI+55\
    W8+GxJBBlvN8cWB4YCQbwcqu+g==";
/// Public key with which applications check the Alipay emulator's answers.
pub const ALIPAY_PUBLIC_KEY: &str = "\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqvZgZQq/ASfEFgA3iwdpzbvMRp/NHSlCFNOF1JLxdyaGVfR+av6nYFRm\
    ujaYp/xSE276nkcu5g5VtzywJd5sM1/J6sjU+QP+P8zKn+QxI9pn2RAra8DSynXAJuwXRzRcqRhk2RpBqd31BMogoQNDrPvbAexd\
    aazYbhg9/Ewy3UKITWa85fME9DjOiUS2/JvpjH1iJ5rYOBqgzMUuz/ETCU0Z65p+rD2scliPMadf2rkCqN7YTvHV/wfgEYVwM/f6\
    GouJ4/+gcDgjSgoOBA4geJLU5WxSXjEcxHh6BKF3y6xb+25oBa7ag67GrJoLOsuaLRDJslI0sVJqRb2OLl+0LwIDAQAB";

/// What a channel of this kind proves itself with at its emulator: credentials by name.
pub fn of(kind: ChannelKind) -> Vec<(&'static str, &'static str)> {
    let default_token = ("default_payment_token", DEFAULT_PAYMENT_TOKEN);
    match kind {
        ChannelKind::Stripe => {
            vec![("secret_key", STRIPE_SECRET_KEY), ("webhook_secret", STRIPE_WEBHOOK_SECRET), default_token]
        }
        ChannelKind::Paypal => vec![
            ("client_id", PAYPAL_CLIENT_ID),
            ("client_secret", PAYPAL_CLIENT_SECRET),
            ("webhook_id", PAYPAL_WEBHOOK_ID),
            ("merchant_id", PAYPAL_MERCHANT_ID),
            default_token,
        ],
        ChannelKind::Alipay => vec![
            ("app_id", ALIPAY_APP_ID),
            ("app_private_key", ALIPAY_APP_PRIVATE_KEY),
            ("alipay_public_key", ALIPAY_PUBLIC_KEY),
            ("seller_id", ALIPAY_SELLER_ID),
            default_token,
        ],
        ChannelKind::Btcpay => vec![
            ("api_key", BTCPAY_API_KEY),
            ("store_id", BTCPAY_STORE_ID),
            ("webhook_secret", BTCPAY_WEBHOOK_SECRET),
            default_token,
        ],
        ChannelKind::Instant | ChannelKind::Custom => Vec::new(),
    }
}
