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
/// The root that vouches for what the PayPal emulator signs with; made for this, and its own key is gone.
pub const PAYPAL_CA: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIDRDCCAiygAwIBAgIUUAV1zGCtvum94ANf2qdbHaKx/gcwDQYJKoZIhvcNAQEL\n\
BQAwOTEZMBcGA1UECgwQVG9sbGdhdGUgc2FuZGJveDEcMBoGA1UEAwwTVG9sbGdh\n\
dGUgc2FuZGJveCBDQTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFow\n\
OTEZMBcGA1UECgwQVG9sbGdhdGUgc2FuZGJveDEcMBoGA1UEAwwTVG9sbGdhdGUg\n\
c2FuZGJveCBDQTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAM2cmfP7\n\
tIHDPeLUx4StXC5gDFJQ2abkf97tjlzajSgb+pj40HOqwzzC8sMNZknY38GrkQtj\n\
aw+mOYJbHHFe50eu/US+EwZmPMJEeEtaXGd4mtnIwCau9Rh2VYXVjjcjQgXPAKMo\n\
MPJRfdod4pXwOmVBtd4a0iVj0CLIN0+sfuztfc+4WbcXG6YXjud0RJ+RAHMCmUuQ\n\
27o1T1wZwlLonOTP3DmxpI9mitjQpH584IKTr0QNa9y52aaetPxhZ5C89vcueYeT\n\
uYnVgJPsEMEgXbYn8EYeaR21igd9T3z4f+FKde2NXcuAt7zhkhYAGflhgY+F34vJ\n\
3TT1z5DNuDGZNBcCAwEAAaNCMEAwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8E\n\
BAMCAQYwHQYDVR0OBBYEFHIkznVqcXtplk3kReB6Ch/MN/kiMA0GCSqGSIb3DQEB\n\
CwUAA4IBAQBEf7AyHeW8Zi05MNhJYXSJ0bj5kRdUKNsGHC/+2UPCcX1KwnqQW64u\n\
ShxruUSFNSn8754EGfexESosgUuqsOW8FOELBb38BOj/ceDTzvjn1k3psF4vJZX+\n\
mocxzpEbzw/G+xkBkbg1+HEdyZ+nIgsYcWRRNk6DG6nCr2w613rl8FsLaYkg5Jnd\n\
b3F+hHB7Wx9VsLISK05fc+4xGFwfGHtSAvFJdCBQLrOHNgeiqHdPT2BL6XCz9USZ\n\
QjV3CMNnfC32uYAjN04JClBVVzW5H5heDiOdWxDgVl85ZLnLTI0Ge0Uxz+9Z0fGH\n\
egMRGfwHiTmFiPXyeECg7Oe8ygk1UTXy\n\
-----END CERTIFICATE-----\n";
/// The certificate that the PayPal emulator signs with.
pub const PAYPAL_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIDzTCCArWgAwIBAgIUWn5w/kfEwixA0c7ReAXC2NJg3+IwDQYJKoZIhvcNAQEL\n\
BQAwOTEZMBcGA1UECgwQVG9sbGdhdGUgc2FuZGJveDEcMBoGA1UEAwwTVG9sbGdh\n\
dGUgc2FuZGJveCBDQTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFow\n\
TjEZMBcGA1UECgwQVG9sbGdhdGUgc2FuZGJveDExMC8GA1UEAwwobWVzc2FnZXZl\n\
cmlmaWNhdGlvbmNlcnRzLnNhbmRib3guZXhhbXBsZTCCASIwDQYJKoZIhvcNAQEB\n\
BQADggEPADCCAQoCggEBANWfjhoXPmM25rmrh4TGUrAVyX48q2UnVJTy/51JhgP0\n\
4dioAFppbEU8jeRd1Y52WHvXApPS5Sk6kNvr2+oLFfT6FxgrFKjHsKA+fTGQMMwi\n\
WQ7t8ncQXhZcqkVoy7AA71LOs1Zhs0miaJHiwLwLt0Y+8VAPHWs9dsTZm7XpCGAo\n\
FNAW7xUoNMLoh7ErVlKyn/k0jFOo0uTqec+pKuJUdRaTjn0SjIA83GvEUjPrhx/w\n\
dmuAknh9McsH4IuIHXY2OoA1m8wngYSEJkwwOHY8Zze/a5Eltxc0/UW6v5i+c0T7\n\
6mXejb9oT/06HGAYgC1tI2uX5Wfk6J1xTQ1STiZsD4kCAwEAAaOBtTCBsjAMBgNV\n\
HRMBAf8EAjAAMA4GA1UdDwEB/wQEAwIHgDAdBgNVHSUEFjAUBggrBgEFBQcDAQYI\n\
KwYBBQUHAwIwMwYDVR0RBCwwKoIobWVzc2FnZXZlcmlmaWNhdGlvbmNlcnRzLnNh\n\
bmRib3guZXhhbXBsZTAdBgNVHQ4EFgQU6E2W32VMe3xvion3sIzOcM/rQXwwHwYD\n\
VR0jBBgwFoAUciTOdWpxe2mWTeRF4HoKH8w3+SIwDQYJKoZIhvcNAQELBQADggEB\n\
AI9iF4LRs0v3R+8X5f/fA1eDmMhuhujrFa0GUuiZVeA9T3GFZ71xBYVW/+TdrgA+\n\
jr6IJl4XhSMXmNNWiMmG/PWuUxYK1HIV5qUTRqCvc6EPXDMn9DIEhDY5K23vi/5l\n\
oz+EQneFB1gCCn4ikiC5Bsb+bSHwuEDl/KO55IPCG114QEquPw8XBtNLlOpNBR6w\n\
+S0lQs5OO94gDgZFgGXcK227TR9aVmN/V1cJfVccGS5vO515kXZOlPtliGDcPRsd\n\
V0HWh4DqGNU/dqVuxgJSD2ZPgO4vDsZ1IL4398sX0IvTmE6iW7uX0LgJqKH8JtUy\n\
POboLh+uaxYkQID7VANTsYg=\n\
-----END CERTIFICATE-----\n";
/// Private key of that certificate: PKCS#8, RSA 2048, bare base64.
pub const PAYPAL_CERTIFICATE_KEY: &str = "\
    MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDVn44aFz5jNua5q4eExlKwFcl+PKtlJ1SU8v+dSYYD9OHYqABa\
    aWxFPI3kXdWOdlh71wKT0uUpOpDb69vqCxX0+hcYKxSox7CgPn0xkDDMIlkO7fJ3EF4WXKpFaMuwAO9SzrNWYbNJomiR4sC8C7dG\
    PvFQDx1rPXbE2Zu16QhgKBTQFu8VKDTC6IexK1ZSsp/5NIxTqNLk6nnPqSriVHUWk459EoyAPNxrxFIz64cf8HZrgJJ4fTHLB+CL\
    iB12NjqANZvMJ4GEhCZMMDh2PGc3v2uRJbcXNP1Fur+YvnNE++pl3o2/aE/9OhxgGIAtbSNrl+Vn5OidcU0NUk4mbA+JAgMBAAEC\
    ggEAGljiet9RB4WW8WFxhnO7cRJO1q3+6avvJ6vM0QZnbAeA72rRGFWWT/fG/FqCY16/TQ7Yt4i0UOBzS1yMtBIH9D4AKS/vDV4L\
    r8flQv6othSqbUf1tq+jGxj0uzjQnnWPDuSFg+rq5PMN+KhB4y+CvDw5IQmsNDTReDfql4YVTV6KZSipJXsEEriGPq50livPRdXY\
    y2Dp99H/lLfWM4JVkqdX19MS7APlX6TWBoIwh5fnSvPC8A6IpJjP5P5a3aOlIS5CwHEM4Sw+pcXdxthgb5++mYV7T7+djT+/NP58\
    J8JXEqSpVXpyrQgUrUP4RhRqNJM5yYh8vbXWIs/MlKdH/QKBgQD29SfqYnoEJH8Y3hpP2q0zlLPn2+/uYYB+ERt4CZ7TKQ8gmlFI\
    dBfhRcyf1xVdTOoKFbx+x8VktQd2ARcUVOIvZgCdXj3krEEQ8mzOCK9TcI4QzuCJ/aS+8PkoE9JjApzc/vR2aZB4K+aT40K7EqBM\
    KXSl8FTaNQP3H8+lGc+ArwKBgQDdcfDwzck4Qou78BZGNBrqC1f881A1KDuqxQBR68pX0SyOmNYlMliPu8RF2HF6j8XhZanLCraT\
    UCrnVRE77mqJkmM8e6oJuVjItIyLHzkLSkZor5Td4eMub7L6Fr8+ZZL/sFZQJj93jZa/xmMiT+QsdGsRM+dluECe2LRPBlhRRwKB\
    gQDQ+VjihJxdnwiR4XgAdLo1uLKYE8uvO4CArTdCV1m3s7niS9NWbS676NWjuFySzAALsqMD4UZO1sVOfNOr17xigX0prVLQi1av\
    4YRiwISkJc2BuZ3WBvV+wekEmelg8RgOBgyVmvSuS+/c2uVf6f4NFNNpi7oxv8TwPFH4kqO9bwKBgQDZg/A9OIXsY0FKa7wVXV0K\
    g/X7mywv6sMhLLzxuwBYXji8INhIVTm0haV3TfG5h7vBeNDdhjpsXRSngmGZUskHNOmRIY+WWZ8iFmbuyM6Jjn22mrFJeXZjyIgv\
    K2TS74cC7Lz7oXY6ArQOz9nUfFEOcZQxo6ApxGCFJyuFbCAYRQKBgFV8p+3n3YFJwb5LbR83s47WrLB+HyPnhJNafe+blBjR9M+1\
    FMXlvJiQS3Pkn4mgFTqkV0f7BNee+BAAVgRClvp/yJR4jqAUTR41tVjjhYo3KmPrhCeq3w9UmwcC9BljfB62umHJMGYl2rVLaNTD\
    Ej8qwxgR15e2S6jAOjPpGOLC";
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
            ("webhook_ca", PAYPAL_CA),
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
