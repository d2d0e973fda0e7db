-- What performance is judged on. Everything here but `session_notes`, `strategy_criteria`, `parameter_sets` and
-- `strategy_starts` is derived: from trades, fills, settlements and equity snapshots, and `oracle recompute` makes it anew
-- to the same bytes. The strategy 'account' with the hash '' is the account as a whole; the month 'all' is all of them.

CREATE INDEX sessions_by_open ON sessions (open_ns);
CREATE INDEX trades_by_set ON trades (strategy, strategy_hash);
CREATE INDEX trades_by_end ON trades (closed_log_id) WHERE closed_log_id IS NOT NULL;
CREATE INDEX orders_by_end ON orders (closed_log_id) WHERE closed_log_id IS NOT NULL;
CREATE INDEX trades_by_closed ON trades (closed_ns) WHERE closed_ns IS NOT NULL;

-- --------------------------------------------------------------------------------------------- written by people

CREATE TABLE session_notes (
    log_id      INTEGER PRIMARY KEY,
    request_id  TEXT,
    date        TEXT NOT NULL, -- the session it is about
    who         TEXT NOT NULL,
    text        TEXT NOT NULL,
    at_ns       INTEGER NOT NULL,
    turn_seq    INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX session_notes_by_date ON session_notes (date);

-- What an operator made stricter than the program's own row; readers take the stricter of both.
CREATE TABLE strategy_criteria (
    strategy    TEXT NOT NULL,
    criterion   TEXT NOT NULL CHECK (criterion IN ('trades', 'win_rate', 'above_break_even', 'sharpe', 'profit_factor',
                                                   'max_drawdown', 'confidence')),
    value       REAL NOT NULL CHECK (value >= 0 AND value < 1e9),
    "before"    REAL,
    request_id  TEXT,
    who         TEXT NOT NULL,
    why         TEXT NOT NULL,
    at_ns       INTEGER NOT NULL,
    log_id      INTEGER NOT NULL,
    turn_seq    INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL,
    PRIMARY KEY (strategy, criterion)
) STRICT, WITHOUT ROWID;

-- BEFORE INSERT also runs ahead of INSERT OR REPLACE and of an upsert's update.
CREATE TRIGGER strategy_criteria_insert BEFORE INSERT ON strategy_criteria
WHEN EXISTS (SELECT 1 FROM strategy_criteria c WHERE c.strategy = NEW.strategy AND c.criterion = NEW.criterion
             AND CASE NEW.criterion WHEN 'max_drawdown' THEN NEW.value > c.value ELSE NEW.value < c.value END)
BEGIN
    SELECT RAISE(ABORT, 'strategy_criteria: criteria only get stricter; the new value is looser than the present one');
END;

CREATE TRIGGER strategy_criteria_update BEFORE UPDATE ON strategy_criteria
WHEN NEW.strategy <> OLD.strategy OR NEW.criterion <> OLD.criterion
    OR CASE NEW.criterion WHEN 'max_drawdown' THEN NEW.value > OLD.value ELSE NEW.value < OLD.value END
BEGIN
    SELECT RAISE(ABORT, 'strategy_criteria: criteria only get stricter; the new value is looser than the present one');
END;

CREATE TRIGGER strategy_criteria_delete BEFORE DELETE ON strategy_criteria
BEGIN
    SELECT RAISE(ABORT, 'strategy_criteria: criteria only get stricter; a row cannot be deleted');
END;

-- ------------------------------------------------------------------------------------- what ran, with what parameters

CREATE TABLE parameter_sets (
    strategy      TEXT NOT NULL,
    strategy_hash TEXT NOT NULL,
    mode          TEXT NOT NULL,
    params        TEXT NOT NULL, -- JSON
    first_seen_ns INTEGER NOT NULL,
    last_seen_ns  INTEGER NOT NULL,
    PRIMARY KEY (strategy, strategy_hash, mode)
) STRICT, WITHOUT ROWID;

-- The strategies of one process start; they run until the next start. `after_log_id` is the last message before it.
CREATE TABLE strategy_starts (
    at_ns         INTEGER NOT NULL,
    strategy      TEXT NOT NULL,
    strategy_hash TEXT NOT NULL,
    after_log_id  INTEGER NOT NULL,
    PRIMARY KEY (at_ns, strategy)
) STRICT, WITHOUT ROWID;

-- --------------------------------------------------------------------------------------------------- derived rows

-- Counts are kept by a trigger in the transaction that closes a trade. Statistics are refreshed after it: `stats_log_id`
-- is the end of the last trade in them and `stats_date` the last session; NULL has not been refreshed yet.
CREATE TABLE strategy_performance (
    strategy             TEXT NOT NULL,
    strategy_hash        TEXT NOT NULL,
    month                TEXT NOT NULL, -- YYYY-MM of the session in or after which trades ended, or 'all'
    mode                 TEXT NOT NULL,
    trades               INTEGER NOT NULL DEFAULT 0,
    wins                 INTEGER NOT NULL DEFAULT 0,
    losses               INTEGER NOT NULL DEFAULT 0,
    scratches            INTEGER NOT NULL DEFAULT 0, -- |net| at most the modelled fees: neither win nor loss
    gross_profit_micros  INTEGER NOT NULL DEFAULT 0, -- sum of net P&L above zero
    gross_loss_micros    INTEGER NOT NULL DEFAULT 0, -- positive: sum of net P&L below zero
    net_pnl_micros       INTEGER NOT NULL DEFAULT 0,
    fees_modelled_micros INTEGER NOT NULL DEFAULT 0,
    fees_broker_micros   INTEGER NOT NULL DEFAULT 0,
    largest_win_micros   INTEGER NOT NULL DEFAULT 0, -- of wins; 0 without one
    largest_loss_micros  INTEGER NOT NULL DEFAULT 0, -- positive
    streak               INTEGER NOT NULL DEFAULT 0, -- wins (+) or losses (-) in a row now
    win_streak           INTEGER NOT NULL DEFAULT 0,
    loss_streak          INTEGER NOT NULL DEFAULT 0,
    last_log_id          INTEGER NOT NULL DEFAULT 0, -- the end of the last trade counted
    stats_log_id         INTEGER,
    stats_date           TEXT,
    win_rate             REAL,
    expectancy_usd       REAL,
    expectancy_r         REAL,
    profit_factor        REAL,
    sharpe               REAL,
    sortino              REAL,
    max_drawdown         REAL,
    exposure             REAL,
    figures              TEXT, -- JSON: every figure
    score                REAL,
    ready                INTEGER CHECK (ready IN (0, 1)),
    reason               TEXT,
    assessment           TEXT, -- JSON; of a strategy's 'all' alone
    inputs               TEXT, -- JSON: what else the assessment rests on
    PRIMARY KEY (strategy, strategy_hash, month, mode)
) STRICT, WITHOUT ROWID;

-- One session's result for a strategy or the account, marked to market, net of modelled fees.
CREATE TABLE strategy_days (
    strategy            TEXT NOT NULL,
    strategy_hash       TEXT NOT NULL,
    date                TEXT NOT NULL,
    pnl_micros          INTEGER, -- NULL: a mark at the close was unknown; the next known session's holds both
    start_equity_micros INTEGER NOT NULL,
    transfers_micros    INTEGER NOT NULL,
    open_ns             INTEGER NOT NULL,
    session_ns          INTEGER NOT NULL,
    PRIMARY KEY (strategy, strategy_hash, date)
) STRICT, WITHOUT ROWID;

CREATE TABLE trade_extremes (
    log_id     INTEGER PRIMARY KEY, -- of the trade's end
    mae_micros INTEGER CHECK (mae_micros <= 0), -- NULL: it was never marked while open
    mfe_micros INTEGER CHECK (mfe_micros >= 0),
    marks      INTEGER NOT NULL
) STRICT;

-- The account at the end of each session. `log_id` is the last message in it.
CREATE TABLE performance_snapshots (
    date                  TEXT NOT NULL,
    mode                  TEXT NOT NULL,
    account               TEXT NOT NULL, -- the database's instance token
    log_id                INTEGER NOT NULL,
    balance_micros        INTEGER, -- cash; NULL, as all below, is unknown
    equity_micros         INTEGER,
    day_pnl_micros        INTEGER,
    cumulative_pnl_micros INTEGER,
    day_trades            INTEGER NOT NULL,
    trades                INTEGER NOT NULL,
    wins                  INTEGER NOT NULL,
    losses                INTEGER NOT NULL,
    scratches             INTEGER NOT NULL,
    win_rate              REAL,
    profit_factor         REAL,
    sharpe                REAL,
    drawdown              REAL, -- fraction of the peak, at this close
    max_drawdown          REAL,
    breakers              TEXT NOT NULL, -- JSON list of the latches set during the session
    streak                INTEGER NOT NULL,
    win_streak            INTEGER NOT NULL,
    loss_streak           INTEGER NOT NULL,
    largest_loss_micros   INTEGER NOT NULL,
    PRIMARY KEY (date, mode, account)
) STRICT, WITHOUT ROWID;

-- One session: from its open to the next one's. `log_id` is the last message counted.
CREATE TABLE trading_sessions (
    date          TEXT NOT NULL,
    mode          TEXT NOT NULL,
    log_id        INTEGER NOT NULL,
    trades        INTEGER NOT NULL,
    strategies    TEXT NOT NULL, -- JSON list: of those that ran, intended or traded
    vix_open      REAL,
    vix_close     REAL,
    regime        TEXT,
    pnl_micros    INTEGER, -- of the account, as in strategy_days
    breakers      TEXT NOT NULL, -- JSON list
    interventions INTEGER NOT NULL, -- requests of operators, notes left out
    notes         TEXT NOT NULL, -- JSON list of {who, text, at_ns}
    PRIMARY KEY (date, mode)
) STRICT, WITHOUT ROWID;

-- --------------------------------------------------------------------------------------------------------- views

-- Each round trip that is over, with the session in or after which it ended (before all sessions: the day in New York
-- at standard time) and its verdict: 1 won, -1 lost, 0 a scratch.
CREATE VIEW trade_results AS
SELECT t.closed_log_id AS log_id, t.strategy, t.strategy_hash,
    coalesce((SELECT s.date FROM sessions s WHERE s.open_ns <= t.closed_ns ORDER BY s.open_ns DESC LIMIT 1),
             date(t.closed_ns / 1000000000 - 18000, 'unixepoch')) AS session,
    t.gross_pnl_micros - t.fees_modelled_micros AS net,
    CASE WHEN abs(t.gross_pnl_micros - t.fees_modelled_micros) <= t.fees_modelled_micros THEN 0
         WHEN t.gross_pnl_micros > t.fees_modelled_micros THEN 1 ELSE -1 END AS verdict,
    t.fees_modelled_micros AS fees_modelled, t.fees_broker_micros AS fees_broker
FROM trades t WHERE t.closed_log_id IS NOT NULL;

-- The counts of strategy_performance, summed up anew from all trades.
CREATE VIEW performance_counts AS
WITH results AS MATERIALIZED (SELECT * FROM trade_results), scoped AS MATERIALIZED (
    SELECT r.log_id, r.net, r.verdict, r.fees_modelled, r.fees_broker,
        CASE k.value WHEN 0 THEN r.strategy ELSE 'account' END AS owner,
        CASE k.value WHEN 0 THEN r.strategy_hash ELSE '' END AS owner_hash,
        CASE m.value WHEN 0 THEN substr(r.session, 1, 7) ELSE 'all' END AS month
    FROM results r, json_each('[0,1]') k, json_each('[0,1]') m
), runs AS (
    SELECT *, row_number() OVER scope - row_number() OVER (PARTITION BY owner, owner_hash, month, verdict ORDER BY log_id) AS run,
        max(log_id) OVER (PARTITION BY owner, owner_hash, month) AS newest
    FROM scoped WINDOW scope AS (PARTITION BY owner, owner_hash, month ORDER BY log_id)
), lengths AS (
    SELECT owner, owner_hash, month, verdict, count(*) AS length, max(log_id) = newest AS present
    FROM runs GROUP BY owner, owner_hash, month, verdict, run
), streaks AS (
    SELECT owner, owner_hash, month, max(CASE WHEN present THEN verdict * length ELSE -9223372036854775807 END) AS streak,
        max(CASE verdict WHEN 1 THEN length ELSE 0 END) AS win_streak,
        max(CASE verdict WHEN -1 THEN length ELSE 0 END) AS loss_streak
    FROM lengths GROUP BY owner, owner_hash, month
), sums AS (
    SELECT owner, owner_hash, month, count(*) AS trades, sum(verdict = 1) AS wins, sum(verdict = -1) AS losses,
        sum(verdict = 0) AS scratches, sum(max(net, 0)) AS gross_profit, sum(max(-net, 0)) AS gross_loss, sum(net) AS net,
        sum(fees_modelled) AS fees_modelled, sum(fees_broker) AS fees_broker, max(CASE verdict WHEN 1 THEN net ELSE 0 END) AS largest_win,
        max(CASE verdict WHEN -1 THEN -net ELSE 0 END) AS largest_loss, max(log_id) AS last_log_id
    FROM scoped GROUP BY owner, owner_hash, month
)
SELECT s.owner AS strategy, s.owner_hash AS strategy_hash, s.month AS month,
    (SELECT value FROM meta WHERE key = 'mode') AS mode, s.trades, s.wins, s.losses, s.scratches,
    s.gross_profit AS gross_profit_micros, s.gross_loss AS gross_loss_micros, s.net AS net_pnl_micros,
    s.fees_modelled AS fees_modelled_micros, s.fees_broker AS fees_broker_micros,
    s.largest_win AS largest_win_micros, s.largest_loss AS largest_loss_micros,
    k.streak, k.win_streak, k.loss_streak, s.last_log_id
FROM sums s JOIN streaks k ON k.owner = s.owner AND k.owner_hash = s.owner_hash AND k.month = s.month;

-- The newest set of each strategy and the account, over all months.
CREATE VIEW v_latest_strategy_performance AS
SELECT p.* FROM strategy_performance p
WHERE p.month = 'all' AND p.strategy_hash = (
    SELECT q.strategy_hash FROM strategy_performance q
    LEFT JOIN strategy_starts b ON b.strategy = q.strategy AND b.strategy_hash = q.strategy_hash
    WHERE q.strategy = p.strategy AND q.month = 'all'
    GROUP BY q.strategy_hash ORDER BY coalesce(max(b.at_ns), 0) DESC, max(q.last_log_id) DESC, q.strategy_hash LIMIT 1);

-- The account session by session. P&L is that of trades, net of modelled fees and without deposits; an unknown session
-- adds nothing until the next known one. The drawdown in dollars is from the highest cumulative P&L, zero included.
CREATE VIEW v_equity_curve AS
SELECT date, balance_micros, equity_micros, transfers_micros, pnl_micros, start_equity_micros, cumulative_pnl_micros,
    max(0, max(cumulative_pnl_micros) OVER (ORDER BY date)) - cumulative_pnl_micros AS drawdown_micros
FROM (SELECT d.date, s.balance_micros, s.equity_micros, d.transfers_micros, d.pnl_micros, d.start_equity_micros,
          coalesce(sum(d.pnl_micros) OVER (ORDER BY d.date), 0) AS cumulative_pnl_micros
      FROM strategy_days d
      LEFT JOIN performance_snapshots s ON s.date = d.date AND s.mode = (SELECT value FROM meta WHERE key = 'mode')
          AND s.account = (SELECT value FROM meta WHERE key = 'instance_token')
      WHERE d.strategy = 'account' AND d.strategy_hash = '')
ORDER BY date;

-- The last hundred round trips, newest first, with everything that trade_facts tells.
CREATE VIEW v_recent_trades AS
SELECT r.session AS session, r.verdict AS verdict, e.mae_micros AS mae_micros, e.mfe_micros AS mfe_micros, f.*
FROM (SELECT log_id, closed_log_id FROM trades WHERE closed_log_id IS NOT NULL ORDER BY closed_log_id DESC LIMIT 100) n
JOIN trade_facts f ON f.log_id = n.log_id
JOIN trade_results r ON r.log_id = n.closed_log_id
LEFT JOIN trade_extremes e ON e.log_id = n.closed_log_id
ORDER BY n.closed_log_id DESC;

-- Every set of parameters with the sessions that it ran.
CREATE VIEW v_parameter_sets AS
SELECT p.*, (SELECT count(*) FROM strategy_days d
             WHERE d.strategy = p.strategy AND d.strategy_hash = p.strategy_hash) AS sessions
FROM parameter_sets p;

-- ------------------------------------------------------------------------------------------------------ triggers

CREATE TRIGGER trade_closed_counts AFTER UPDATE OF closed_log_id ON trades
WHEN OLD.closed_log_id IS NULL AND NEW.closed_log_id IS NOT NULL
BEGIN
    INSERT INTO strategy_performance (strategy, strategy_hash, month, mode, trades, wins, losses, scratches,
        gross_profit_micros, gross_loss_micros, net_pnl_micros, fees_modelled_micros, fees_broker_micros,
        largest_win_micros, largest_loss_micros, streak, win_streak, loss_streak, last_log_id)
    SELECT k.strategy, k.strategy_hash, m.month, (SELECT value FROM meta WHERE key = 'mode'), 1, r.verdict = 1,
        r.verdict = -1, r.verdict = 0, max(r.net, 0), max(-r.net, 0), r.net, r.fees_modelled, r.fees_broker,
        CASE r.verdict WHEN 1 THEN r.net ELSE 0 END, CASE r.verdict WHEN -1 THEN -r.net ELSE 0 END, r.verdict, r.verdict = 1, r.verdict = -1, r.log_id
    FROM trade_results r,
        (SELECT NEW.strategy AS strategy, NEW.strategy_hash AS strategy_hash UNION ALL SELECT 'account', '') k,
        (SELECT 'all' AS month UNION ALL
         SELECT substr(session, 1, 7) FROM trade_results WHERE log_id = NEW.closed_log_id) m
    WHERE r.log_id = NEW.closed_log_id
    ON CONFLICT (strategy, strategy_hash, month, mode) DO UPDATE SET
        trades = trades + 1, wins = wins + excluded.wins, losses = losses + excluded.losses,
        scratches = scratches + excluded.scratches,
        gross_profit_micros = gross_profit_micros + excluded.gross_profit_micros,
        gross_loss_micros = gross_loss_micros + excluded.gross_loss_micros,
        net_pnl_micros = net_pnl_micros + excluded.net_pnl_micros,
        fees_modelled_micros = fees_modelled_micros + excluded.fees_modelled_micros,
        fees_broker_micros = fees_broker_micros + excluded.fees_broker_micros,
        largest_win_micros = max(largest_win_micros, excluded.largest_win_micros),
        largest_loss_micros = max(largest_loss_micros, excluded.largest_loss_micros),
        streak = CASE excluded.streak WHEN 1 THEN max(streak, 0) + 1 WHEN -1 THEN min(streak, 0) - 1 ELSE 0 END,
        win_streak = max(win_streak, CASE excluded.streak WHEN 1 THEN max(streak, 0) + 1 ELSE 0 END),
        loss_streak = max(loss_streak, CASE excluded.streak WHEN -1 THEN 1 - min(streak, 0) ELSE 0 END),
        last_log_id = excluded.last_log_id;
END;

-- A trade can be booked before its session is on record (a fill of this morning, told to a start at noon). When that
-- changes its month, the months are counted anew; their statistics come with the next refresh.
CREATE TRIGGER session_opened_counts AFTER INSERT ON sessions
WHEN substr(NEW.date, 1, 7) <> coalesce((SELECT substr(date, 1, 7) FROM sessions WHERE open_ns < NEW.open_ns
                                         ORDER BY open_ns DESC LIMIT 1), '')
    AND EXISTS (SELECT 1 FROM trades WHERE closed_ns >= NEW.open_ns)
BEGIN
    DELETE FROM strategy_performance WHERE month <> 'all';
    INSERT INTO strategy_performance (strategy, strategy_hash, month, mode, trades, wins, losses, scratches,
        gross_profit_micros, gross_loss_micros, net_pnl_micros, fees_modelled_micros, fees_broker_micros,
        largest_win_micros, largest_loss_micros, streak, win_streak, loss_streak, last_log_id)
    SELECT * FROM performance_counts WHERE month <> 'all';
END;

-- Databases of before: their counts now; statistics, days and extremes with the first refresh or `oracle recompute`.
INSERT INTO strategy_performance (strategy, strategy_hash, month, mode, trades, wins, losses, scratches,
    gross_profit_micros, gross_loss_micros, net_pnl_micros, fees_modelled_micros, fees_broker_micros,
    largest_win_micros, largest_loss_micros, streak, win_streak, loss_streak, last_log_id)
SELECT * FROM performance_counts;
