-- The durable truth of one account in one mode. Money is integer micro-dollars (so that SUM is exact), time is UTC
-- integer nanoseconds, NULL is unknown. `log_id` numbers every durable message of the database in commit order;
-- `turn_seq` is the input's number within its process start (the journal's key) and `recorded_ns` the turn's time.
-- JSON holds what is read back whole; amounts inside it are decimal text.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE account_seed (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    log_id      INTEGER NOT NULL,
    cash_micros INTEGER NOT NULL,
    equity_micros INTEGER NOT NULL,
    at_ns       INTEGER NOT NULL
) STRICT;

-- ------------------------------------------------------------------------------- intent, decision, order, fill

CREATE TABLE intents (
    log_id            INTEGER PRIMARY KEY,
    intent_id         TEXT NOT NULL UNIQUE,
    strategy          TEXT NOT NULL,
    strategy_hash     TEXT NOT NULL,
    underlying        TEXT NOT NULL,
    legs              TEXT NOT NULL,
    exit_plan         TEXT NOT NULL,
    confidence        REAL NOT NULL,
    confidence_needed REAL NOT NULL,
    reason            TEXT NOT NULL,
    facts             TEXT NOT NULL,
    valid_until_ns    INTEGER NOT NULL,
    repeats           INTEGER NOT NULL DEFAULT 0, -- how often the same id came again (risk refuses those)
    turn_seq          INTEGER NOT NULL,
    recorded_ns       INTEGER NOT NULL
) STRICT;
CREATE INDEX intents_by_time ON intents (recorded_ns);

CREATE TABLE decisions (
    log_id               INTEGER PRIMARY KEY,
    decision_id          TEXT NOT NULL UNIQUE,
    intent_id            TEXT NOT NULL REFERENCES intents (intent_id),
    strategy             TEXT NOT NULL,
    underlying           TEXT NOT NULL,
    approved             INTEGER NOT NULL CHECK (approved IN (0, 1)),
    contracts            INTEGER,
    bound_by             TEXT,
    planned_risk_micros  INTEGER,
    worst_case_micros    INTEGER,
    equity_micros        INTEGER,
    equity_needed_micros INTEGER,
    headroom             TEXT,
    turn_seq             INTEGER NOT NULL,
    recorded_ns          INTEGER NOT NULL
) STRICT;
CREATE INDEX decisions_by_intent ON decisions (intent_id);
CREATE INDEX decisions_by_time ON decisions (recorded_ns);

CREATE TABLE refusals (
    decision_id TEXT NOT NULL REFERENCES decisions (decision_id),
    position    INTEGER NOT NULL,
    rule        TEXT NOT NULL,
    observed    TEXT NOT NULL,
    "limit"     TEXT NOT NULL,
    PRIMARY KEY (decision_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    log_id              INTEGER PRIMARY KEY,
    order_id            TEXT NOT NULL UNIQUE,
    sequence            INTEGER NOT NULL,
    trade_id            TEXT NOT NULL,
    decision_id         TEXT REFERENCES decisions (decision_id), -- an exit carries its entry's, or NULL
    strategy            TEXT NOT NULL,
    strategy_hash       TEXT NOT NULL,
    underlying          TEXT NOT NULL,
    purpose             TEXT NOT NULL,
    symbol              TEXT NOT NULL,
    side                TEXT NOT NULL,
    contracts           INTEGER NOT NULL CHECK (contracts > 0),
    order_type          TEXT NOT NULL,
    worst_price_micros  INTEGER,
    decision_mid_micros INTEGER,
    window_end_ns       INTEGER NOT NULL,
    planned_risk_micros INTEGER NOT NULL,
    worst_case_micros   INTEGER NOT NULL,
    equity_micros       INTEGER NOT NULL,
    reason              TEXT NOT NULL,
    config_fingerprint  TEXT NOT NULL,
    message             TEXT NOT NULL, -- the whole command as JSON: its ladder and exit plan, exactly
    turn_seq            INTEGER NOT NULL,
    recorded_ns         INTEGER NOT NULL,
    -- Cache of the newest row in order_events:
    state               TEXT NOT NULL DEFAULT 'intent',
    attempt             INTEGER NOT NULL DEFAULT 0,
    step                INTEGER NOT NULL DEFAULT 0,
    -- The order's end (OrderClosed); NULL while any part of it can still fill:
    closed_log_id       INTEGER,
    closed_ns           INTEGER,
    closed_filled       INTEGER,
    end_reason          TEXT,
    CHECK (purpose <> 'entry' OR decision_id IS NOT NULL)
) STRICT;
CREATE INDEX orders_by_trade ON orders (trade_id);
CREATE INDEX orders_working ON orders (log_id) WHERE closed_log_id IS NULL;

CREATE TABLE order_events (
    log_id          INTEGER PRIMARY KEY,
    order_id        TEXT NOT NULL REFERENCES orders (order_id),
    client_order_id TEXT NOT NULL,
    attempt         INTEGER NOT NULL,
    step            INTEGER NOT NULL,
    from_state      TEXT NOT NULL,
    to_state        TEXT NOT NULL,
    filled          INTEGER NOT NULL,
    text            TEXT NOT NULL,
    turn_seq        INTEGER NOT NULL,
    recorded_ns     INTEGER NOT NULL
) STRICT;
CREATE INDEX order_events_by_order ON order_events (order_id);
CREATE INDEX order_events_by_client ON order_events (client_order_id);

CREATE TABLE fills (
    log_id               INTEGER PRIMARY KEY,
    execution_id         TEXT NOT NULL UNIQUE,
    order_id             TEXT NOT NULL REFERENCES orders (order_id),
    client_order_id      TEXT NOT NULL,
    broker_order_id      TEXT NOT NULL,
    trade_id             TEXT NOT NULL, -- no foreign key: an over-fill after a trade's end belongs to no open trade
    strategy             TEXT NOT NULL,
    symbol               TEXT NOT NULL,
    side                 TEXT NOT NULL CHECK (side IN ('buy', 'sell')),
    purpose              TEXT NOT NULL,
    contracts            INTEGER NOT NULL CHECK (contracts > 0),
    price_micros         INTEGER NOT NULL,
    fees_broker_micros   INTEGER NOT NULL,
    fees_modelled_micros INTEGER NOT NULL,
    at_ns                INTEGER NOT NULL,
    turn_seq             INTEGER NOT NULL,
    recorded_ns          INTEGER NOT NULL
) STRICT;
CREATE INDEX fills_by_order ON fills (order_id);
CREATE INDEX fills_by_trade ON fills (trade_id);
CREATE INDEX fills_by_time ON fills (at_ns);

-- Fees that the broker charged; its activities name no order, so they belong to the account.
CREATE TABLE fees (
    log_id          INTEGER PRIMARY KEY,
    activity_id     TEXT NOT NULL UNIQUE,
    symbol          TEXT NOT NULL,
    amount_micros   INTEGER NOT NULL,
    text            TEXT NOT NULL,
    at_ns           INTEGER NOT NULL,
    in_opening_cash INTEGER NOT NULL CHECK (in_opening_cash IN (0, 1)),
    turn_seq        INTEGER NOT NULL,
    recorded_ns     INTEGER NOT NULL
) STRICT;

CREATE TABLE foreign_executions (
    log_id          INTEGER PRIMARY KEY,
    execution_id    TEXT NOT NULL UNIQUE,
    client_order_id TEXT NOT NULL,
    symbol          TEXT NOT NULL,
    side            TEXT NOT NULL,
    qty             TEXT NOT NULL, -- decimal text: shares may be fractional
    price_micros    INTEGER NOT NULL,
    turn_seq        INTEGER NOT NULL,
    recorded_ns     INTEGER NOT NULL
) STRICT;

-- ------------------------------------------------------------------------------------------------------ trades

-- One row per round trip. A late fill of an entry that reopens a finished trade is a round trip of its own.
CREATE TABLE trades (
    log_id         INTEGER PRIMARY KEY,
    trade_id       TEXT NOT NULL,
    strategy       TEXT NOT NULL,
    strategy_hash  TEXT NOT NULL,
    underlying     TEXT NOT NULL,
    symbol         TEXT NOT NULL,
    entry_order_id TEXT NOT NULL REFERENCES orders (order_id),
    feed           TEXT, -- the option feed's quality as configured; NULL is unknown
    opened_ns      INTEGER NOT NULL,
    exit_phase     TEXT, -- cache of the newest ExitPlanAdvanced in exit_events
    turn_seq       INTEGER NOT NULL,
    recorded_ns    INTEGER NOT NULL,
    -- Cache: everything below is derived from fills, orders and exit_events, and can be rebuilt from them.
    closed_log_id        INTEGER,
    closed_ns            INTEGER,
    contracts            INTEGER,
    entry_price_micros   INTEGER,
    exit_price_micros    INTEGER,
    gross_pnl_micros     INTEGER,
    fees_broker_micros   INTEGER,
    fees_modelled_micros INTEGER,
    slippage_micros      INTEGER,
    slippage_bps         REAL,
    exit_rule            TEXT,
    closed_message       TEXT, -- TradeClosed as JSON: averages that no whole number of micros holds
    net_pnl_micros       INTEGER GENERATED ALWAYS AS (gross_pnl_micros - fees_modelled_micros) VIRTUAL,
    UNIQUE (trade_id, opened_ns)
) STRICT;
CREATE INDEX trades_by_strategy ON trades (strategy, closed_ns);
CREATE INDEX trades_open ON trades (trade_id) WHERE closed_ns IS NULL;

CREATE TABLE exit_events (
    log_id      INTEGER PRIMARY KEY,
    trade_id    TEXT NOT NULL,
    rule        TEXT, -- set: ExitTriggered
    observed    TEXT,
    "limit"     TEXT,
    purpose     TEXT,
    phase       TEXT, -- set: ExitPlanAdvanced
    turn_seq    INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL,
    CHECK ((rule IS NULL) <> (phase IS NULL))
) STRICT;
CREATE INDEX exit_events_by_trade ON exit_events (trade_id);

-- What a trade is, in one row: joined, not stored. Prices in micros a unit; shares are fractions of equity.
CREATE VIEW trade_facts AS
SELECT
    t.*,
    (SELECT value FROM meta WHERE key = 'mode') AS mode,
    o.decision_mid_micros AS expected_entry_micros,
    (SELECT CASE WHEN count(*) = count(x.decision_mid_micros)
                 THEN CAST(round(sum(x.decision_mid_micros * f.contracts) * 1.0 / sum(f.contracts)) AS INTEGER) END
       FROM fills f JOIN orders x USING (order_id)
      WHERE f.trade_id = t.trade_id AND f.purpose <> 'entry'
        AND f.at_ns BETWEEN t.opened_ns AND coalesce(t.closed_ns, f.at_ns)) AS expected_exit_micros,
    o.side AS side,
    o.equity_micros AS equity_micros,
    o.planned_risk_micros AS planned_risk_micros,
    o.worst_case_micros AS worst_case_micros,
    o.planned_risk_micros * 1.0 / o.equity_micros AS planned_risk_share,
    o.worst_case_micros * 1.0 / o.equity_micros AS worst_case_share,
    o.reason AS reason,
    o.config_fingerprint AS config_fingerprint,
    i.exit_plan AS exit_plan,
    d.intent_id AS intent_id,
    d.decision_id AS decision_id,
    i.legs AS legs,
    i.facts AS facts,
    i.confidence AS confidence
FROM trades t
JOIN orders o ON o.order_id = t.entry_order_id
JOIN decisions d ON d.decision_id = o.decision_id
JOIN intents i ON i.intent_id = d.intent_id;

-- --------------------------------------------------------------------------------- account, sessions, breakers

CREATE TABLE equity_snapshots (
    log_id                  INTEGER PRIMARY KEY,
    date                    TEXT NOT NULL,
    at_ns                   INTEGER NOT NULL,
    kind                    TEXT NOT NULL,
    cash_micros             INTEGER NOT NULL,
    equity_micros           INTEGER NOT NULL,
    day_start_equity_micros INTEGER NOT NULL,
    peak_equity_micros      INTEGER NOT NULL,
    realized_today_micros   INTEGER NOT NULL,
    unrealized_micros       INTEGER NOT NULL,
    marks_stale             INTEGER NOT NULL,
    turn_seq                INTEGER NOT NULL,
    recorded_ns             INTEGER NOT NULL
) STRICT;
CREATE INDEX equity_snapshots_by_time ON equity_snapshots (at_ns);
CREATE INDEX equity_snapshots_by_date ON equity_snapshots (date, kind);

CREATE TABLE sessions (
    date         TEXT PRIMARY KEY,
    open_ns      INTEGER NOT NULL,
    close_ns     INTEGER NOT NULL,
    starts       INTEGER NOT NULL DEFAULT 1, -- how often a process began or rejoined the session
    first_ns     INTEGER NOT NULL,           -- when the first of them did
    ended_ns     INTEGER
) STRICT, WITHOUT ROWID;

-- A session's counts are sums over what it holds, from its open to 24 hours later.
CREATE VIEW session_summary AS
SELECT
    s.*,
    (SELECT group_concat(strategy) FROM (SELECT DISTINCT strategy FROM intents
      WHERE recorded_ns >= s.open_ns AND recorded_ns < s.open_ns + 86400000000000 ORDER BY strategy)) AS strategies,
    (SELECT count(*) FROM intents
      WHERE recorded_ns >= s.open_ns AND recorded_ns < s.open_ns + 86400000000000) AS intents,
    (SELECT count(*) FROM decisions WHERE approved = 0
      AND recorded_ns >= s.open_ns AND recorded_ns < s.open_ns + 86400000000000) AS refused,
    (SELECT count(*) FROM fills WHERE at_ns >= s.open_ns AND at_ns < s.open_ns + 86400000000000) AS fills,
    (SELECT count(*) FROM trades
      WHERE closed_ns >= s.open_ns AND closed_ns < s.open_ns + 86400000000000) AS trades_closed,
    (SELECT sum(net_pnl_micros) FROM trades
      WHERE closed_ns >= s.open_ns AND closed_ns < s.open_ns + 86400000000000) AS net_pnl_micros,
    (SELECT count(*) FROM latch_events WHERE active = 1
      AND recorded_ns >= s.open_ns AND recorded_ns < s.open_ns + 86400000000000) AS latches_set
FROM sessions s;

CREATE TABLE latch_events (
    log_id      INTEGER PRIMARY KEY,
    latch       TEXT NOT NULL,
    active      INTEGER NOT NULL CHECK (active IN (0, 1)),
    reason      TEXT NOT NULL,
    observed    TEXT NOT NULL,
    "limit"     TEXT NOT NULL,
    until_date  TEXT,
    at_ns       INTEGER,
    turn_seq    INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL
) STRICT;

-- Cache: the newest event of each latch.
CREATE TABLE latches (
    latch  TEXT PRIMARY KEY,
    log_id INTEGER NOT NULL REFERENCES latch_events (log_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE iv_history (
    underlying TEXT NOT NULL,
    date       TEXT NOT NULL,
    iv_30d     REAL NOT NULL CHECK (iv_30d > 0),
    source     TEXT NOT NULL,
    PRIMARY KEY (underlying, date)
) STRICT, WITHOUT ROWID;

CREATE TABLE reconciliations (
    log_id      INTEGER PRIMARY KEY,
    at_ns       INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    differences TEXT NOT NULL, -- JSON list of lines; [] when books and broker agree
    turn_seq    INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE strategy_failures (
    log_id      INTEGER PRIMARY KEY,
    strategy    TEXT NOT NULL,
    error       TEXT NOT NULL,
    turn_seq    INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL
) STRICT;
