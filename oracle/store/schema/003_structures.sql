-- Structures: orders and trades whose `symbol` is the name of several legs, and what ends without an order of ours.
-- Fills and positions stay per leg. `side`, `contracts` and prices of an order or a trade are those of its unit.

-- What of a trade expired, was exercised, assigned or sold by the broker, and the shares that came of it.
CREATE TABLE position_settlements (
    log_id               INTEGER PRIMARY KEY,
    settlement_id        TEXT NOT NULL UNIQUE,
    trade_id             TEXT NOT NULL, -- no foreign key, as with fills
    ending               TEXT NOT NULL,
    symbol               TEXT NOT NULL,
    contracts            INTEGER NOT NULL CHECK (contracts > 0), -- that left, of a long or a short position
    price_micros         INTEGER NOT NULL,
    shares_symbol        TEXT NOT NULL,
    shares               INTEGER NOT NULL, -- signed
    share_price_micros   INTEGER,
    fees_modelled_micros INTEGER NOT NULL,
    source               TEXT NOT NULL,
    covers               TEXT NOT NULL, -- JSON list of the broker's ids
    at_ns                INTEGER NOT NULL,
    turn_seq             INTEGER NOT NULL,
    recorded_ns          INTEGER NOT NULL,
    CHECK ((shares <> 0) = (share_price_micros IS NOT NULL))
) STRICT;
CREATE INDEX position_settlements_by_trade ON position_settlements (trade_id);
CREATE INDEX position_settlements_by_time ON position_settlements (at_ns);

-- What each symbol held was valued at, as JSON; NULL: marked before this schema.
ALTER TABLE equity_snapshots ADD COLUMN marks TEXT;

-- An execution that a settlement stands for (the broker's sell-out) is held by the books as well.
DROP VIEW settled_executions;
CREATE VIEW settled_executions AS
SELECT execution_id FROM adopted_executions
UNION SELECT c.value FROM cash_corrections, json_each(cash_corrections.covers) c
UNION SELECT c.value FROM position_settlements, json_each(position_settlements.covers) c
UNION SELECT f.execution_id FROM foreign_executions f JOIN account_seed s
    ON f.recorded_ns < s.at_ns OR (f.recorded_ns = s.at_ns AND f.turn_seq <= coalesce(s.turn_seq, f.turn_seq))
UNION SELECT f.execution_id FROM foreign_executions f
    WHERE f.recorded_ns <= (SELECT max(at_ns) FROM reconciliations WHERE differences = '[]') - 60000000000;

-- As before, with the entry's whole command, which says what a structure can come to. The expected exit is that of exits of the whole unit:
-- the mid of some of its legs, or of shares, is a price of something else.
DROP VIEW trade_facts;
CREATE VIEW trade_facts AS
SELECT
    t.*,
    (SELECT value FROM meta WHERE key = 'mode') AS mode,
    o.decision_mid_micros AS expected_entry_micros,
    (SELECT CASE WHEN count(*) = sum(x.symbol = t.symbol AND x.decision_mid_micros IS NOT NULL)
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
    o.message AS entry_message,
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
