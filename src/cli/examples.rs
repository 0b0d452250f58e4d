//! Examples below each command's `--help`, in the manual and in docs/cli.md. A test parses each of them.

/// What for, and the line as it is typed.
pub(super) type Example = (&'static str, &'static str);

/// The examples of each command by its path; nothing for `tollgate` itself.
pub(super) const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("Try it: everything in one process, nothing is kept", "tollgate demo"),
            ("Run a gateway over the providers' emulators", "tollgate serve --data-dir ./data"),
        ],
    ),
    (
        "serve",
        &[
            ("Over the providers' emulators, with all defaults", "tollgate serve --data-dir ./data"),
            ("As it is configured", "tollgate serve --config /etc/tollgate/config.toml"),
        ],
    ),
    ("demo", &[("", "tollgate demo"), ("For a script", "tollgate demo --payments 100 --exit --json")]),
    ("sandbox", &[("With notifications to a gateway of yours", "tollgate sandbox --callbacks http://127.0.0.1:8080")]),
    (
        "request",
        &[
            (
                "Take a payment",
                r#"TOLLGATE_KEY=ak_1 TOLLGATE_SECRET=sk_1 tollgate request POST /api/v1/payments --data '{"order_no":"A-1","amount":5000,"currency":"USD"}'"#,
            ),
            ("How much of the limits is used", "tollgate request GET /api/v1/limits"),
        ],
    ),
    (
        "healthcheck",
        &[
            ("Of the gateway on this machine", "tollgate healthcheck"),
            ("Of another listener, by its address", "tollgate healthcheck --url https://127.0.0.1:8443"),
        ],
    ),
    ("status", &[("", "tollgate status"), ("For a script: 0 when requests are taken", "tollgate status --json")]),
    (
        "merchant create",
        &[
            ("", "tollgate merchant create 'Corner Shop' --tier starter"),
            (
                "With a limit of its own, on two channels only",
                "tollgate merchant create 'Corner Shop' --tier business --per-second 80 --channels stripe,paypal",
            ),
        ],
    ),
    ("merchant list", &[("All of them, as JSON", "tollgate merchant list --all --json")]),
    ("merchant show", &[("", "tollgate merchant show m_1")]),
    (
        "merchant update",
        &[
            ("Another tier, at once", "tollgate merchant update m_1 --tier premium"),
            ("Back to the tier's limits", "tollgate merchant update m_1 --own-limits none"),
        ],
    ),
    ("merchant suspend", &[("", "tollgate merchant suspend m_1")]),
    ("merchant activate", &[("", "tollgate merchant activate m_1")]),
    ("merchant delete", &[("", "tollgate merchant delete m_1")]),
    (
        "merchant limits",
        &[
            ("Bars of one merchant", "tollgate merchant limits m_1"),
            ("Who is near a limit", "tollgate merchant limits --near"),
        ],
    ),
    ("merchant key add", &[("Before the old one is removed", "tollgate merchant key add m_1")]),
    ("merchant key remove", &[("", "tollgate merchant key remove m_1 ak_1")]),
    ("channel list", &[("", "tollgate channel list")]),
    ("channel show", &[("", "tollgate channel show stripe")]),
    ("channel enable", &[("", "tollgate channel enable stripe")]),
    ("channel disable", &[("", "tollgate channel disable stripe")]),
    (
        "channel set",
        &[
            ("Other fees, at once", r#"tollgate channel set stripe --fees '{"percent":"2.5","fixed_minor":25}'"#),
            ("What the configuration file says", "tollgate channel set stripe --unset fees"),
        ],
    ),
    ("channel reset", &[("", "tollgate channel reset stripe")]),
    ("channel check", &[("Are the credentials taken?", "tollgate channel check stripe")]),
    (
        "channel faults",
        &[
            ("Take a provider away", "tollgate channel faults stripe --down true"),
            (
                "Decline every second payment, slowly",
                "tollgate channel faults stripe --decline-rate 0.5 --latency-ms 800",
            ),
        ],
    ),
    ("rule list", &[("", "tollgate rule list")]),
    ("rule show", &[("", "tollgate rule show euro-cards")]),
    (
        "rule add",
        &[
            (
                "Cards in euros go to PayPal, else to Stripe",
                "tollgate rule add --id euro-cards --currencies EUR --methods card --channels paypal,stripe",
            ),
            (
                "A tenth of a country's payments elsewhere",
                "tollgate rule add --countries CN --split stripe=90,alipay=10",
            ),
        ],
    ),
    ("rule update", &[("", "tollgate rule update euro-cards --enabled false")]),
    ("rule delete", &[("", "tollgate rule delete euro-cards")]),
    (
        "rule check",
        &[
            ("The rules in force", "tollgate rule check"),
            ("One that is still to be added", "tollgate rule check --file rule.toml"),
        ],
    ),
    ("routing show", &[("", "tollgate routing show")]),
    ("routing set", &[("The cheapest channel first", "tollgate routing set --mode cost")]),
    ("routing versions", &[("", "tollgate routing versions --limit 5")]),
    ("routing rollback", &[("", "tollgate routing rollback 7")]),
    (
        "payment list",
        &[
            ("What failed on a channel", "tollgate payment list --status failed --channel stripe"),
            ("The payment of an order", "tollgate payment list --order ORDER-1"),
            (
                "A day's, for a script",
                "tollgate payment list --from 2026-01-01T00:00:00Z --to 2026-01-02T00:00:00Z --all --json",
            ),
        ],
    ),
    ("payment show", &[("", "tollgate payment show PY20250124104000abcdefgh")]),
    ("payment routing", &[("Why did it go there?", "tollgate payment routing PY20250124104000abcdefgh")]),
    (
        "payment resolve",
        &[("", "tollgate payment resolve PY20250124104000abcdefgh --status success --reason 'seen in the dashboard'")],
    ),
    ("pre-auth list", &[("What holds money", "tollgate pre-auth list --status requires_capture")]),
    ("pre-auth show", &[("", "tollgate pre-auth show PA20250124104000abcdefgh")]),
    (
        "pre-auth resolve",
        &[(
            "",
            "tollgate pre-auth resolve PA20250124104000abcdefgh --status canceled --reason 'seen in the dashboard'",
        )],
    ),
    ("webhook list", &[("Those that are in trouble", "tollgate webhook list --health open")]),
    ("webhook show", &[("", "tollgate webhook show we_1")]),
    ("webhook pause", &[("", "tollgate webhook pause we_1")]),
    ("webhook enable", &[("With what was kept meanwhile", "tollgate webhook enable we_1 --send-kept")]),
    ("webhook recover", &[("", "tollgate webhook recover we_1 --since 2026-01-02T03:04:05Z")]),
    ("webhook reset-health", &[("", "tollgate webhook reset-health we_1")]),
    ("webhook jobs", &[("", "tollgate webhook jobs --merchant m_1")]),
    ("webhook show-job", &[("", "tollgate webhook show-job wj_1")]),
    ("webhook cancel-job", &[("", "tollgate webhook cancel-job wj_1")]),
    (
        "webhook notifications",
        &[
            ("What was given up", "tollgate webhook notifications --merchant m_1 --status failed"),
            (
                "What was told of a payment",
                "tollgate webhook notifications --merchant m_1 --payment PY20250124104000abcdefgh",
            ),
        ],
    ),
    ("webhook show-notification", &[("With its tries", "tollgate webhook show-notification wn_1")]),
    ("webhook retry", &[("", "tollgate webhook retry wn_1")]),
    ("audit list", &[("Who changed a merchant", "tollgate audit list --object m_1")]),
    ("audit verify", &[("Was the record touched?", "tollgate audit verify")]),
    ("erasure payment", &[("", "tollgate erasure payment m_1 PY20250124104000abcdefgh")]),
    ("erasure pre-auth", &[("", "tollgate erasure pre-auth m_1 PA20250124104000abcdefgh")]),
    ("erasure customer", &[("", "tollgate erasure customer m_1 --email someone@example.com")]),
    ("erasure list", &[("", "tollgate erasure list")]),
    ("erasure show", &[("", "tollgate erasure show er_1")]),
    (
        "store status",
        &[("", "tollgate store status"), ("Without a gateway", "tollgate store status --offline --data-dir ./data")],
    ),
    ("store backup", &[("", "tollgate store backup /backups/2026-01-02")]),
    (
        "store restore",
        &[(
            "Into a directory that is not there yet",
            "tollgate store restore /backups/2026-01-02 --data-dir ./restored",
        )],
    ),
    ("store verify", &[("Is a backup whole?", "tollgate store verify /backups/2026-01-02")]),
    ("store export", &[("", "tollgate store export /backups/tollgate.export")]),
    ("store import", &[("", "tollgate store import /backups/tollgate.export --data-dir ./moved")]),
    ("store rotate-key", &[("", "tollgate store rotate-key")]),
    ("store hold", &[("", "tollgate store hold")]),
    ("store confirm", &[("", "tollgate store confirm stripe")]),
    ("costs", &[("By day", "tollgate costs --from 2026-01-01 --to 2026-01-31 --by day")]),
    (
        "simulate",
        &[
            ("All modes beside one channel for everything", "tollgate simulate --traffic traffic.csv --against stripe"),
            ("With the routing of a running gateway", "tollgate simulate --traffic traffic.csv --in-force"),
        ],
    ),
    (
        "check-config",
        &[
            ("Is it valid, and what comes of it?", "tollgate check-config --config new.toml"),
            ("What would a reload change now, what needs a restart?", "tollgate check-config --diff"),
            ("What would this file change in the running gateway?", "tollgate check-config --diff --config new.toml"),
            ("What is different in these two files?", "tollgate check-config --diff old.toml --config new.toml"),
        ],
    ),
    (
        "export",
        &[
            ("A month's payments", "tollgate export payments --from 2026-01-01 --to 2026-02-01 --output payments.csv"),
            ("Totals by day of one merchant", "tollgate export fees --from 2026-01-01 --merchant m_1"),
        ],
    ),
    (
        "log-level",
        &[
            ("What is logged now", "tollgate log-level"),
            ("More of the deliveries, for ten minutes", "tollgate log-level info,tollgate::delivery=debug --for 10m"),
        ],
    ),
    ("reload", &[("After the configuration file was changed", "tollgate reload")]),
    ("openapi", &[("", "tollgate openapi > openapi.json")]),
    ("completions", &[("", "tollgate completions bash > /etc/bash_completion.d/tollgate")]),
    (
        "man",
        &[
            ("Read it", "tollgate man | man -l -"),
            ("A page for each command", "tollgate man --dir /usr/local/share/man/man1"),
        ],
    ),
];
