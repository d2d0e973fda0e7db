-- What operators asked for and what became of it: who, why, and the answers, the last of them with done = 1.
-- `adopted_executions` are the broker's execution ids of others that the books hold through an adoption, whose order,
-- fills and trade stand in their own tables like any other's.

-- The turn of the seed: what others executed in it or before is in the opening cash. NULL: seeded before this schema.
ALTER TABLE account_seed ADD COLUMN turn_seq INTEGER;

CREATE TABLE operator_answers (
    log_id      INTEGER PRIMARY KEY,
    request_id  TEXT NOT NULL,
    action      TEXT NOT NULL,
    who         TEXT NOT NULL,
    why         TEXT NOT NULL,
    ok          INTEGER NOT NULL CHECK (ok IN (0, 1)),
    done        INTEGER NOT NULL CHECK (done IN (0, 1)),
    text        TEXT NOT NULL,
    facts       TEXT NOT NULL, -- JSON: plain values, amounts as decimal text
    at_ns       INTEGER NOT NULL,
    turn_seq    INTEGER NOT NULL,
    recorded_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX operator_answers_by_request ON operator_answers (request_id);
CREATE INDEX operator_answers_by_time ON operator_answers (at_ns);

CREATE TABLE adopted_executions (
    execution_id TEXT PRIMARY KEY,
    log_id       INTEGER NOT NULL REFERENCES orders (log_id),
    order_id     TEXT NOT NULL REFERENCES orders (order_id)
) STRICT, WITHOUT ROWID;

-- Round trips of others that an operator had booked: what they left in cash.
CREATE TABLE cash_corrections (
    log_id        INTEGER PRIMARY KEY,
    request_id    TEXT NOT NULL,
    symbol        TEXT NOT NULL,
    amount_micros INTEGER NOT NULL,
    who           TEXT NOT NULL,
    why           TEXT NOT NULL,
    covers        TEXT NOT NULL, -- JSON list of the broker's execution ids
    at_ns         INTEGER NOT NULL,
    turn_seq      INTEGER NOT NULL,
    recorded_ns   INTEGER NOT NULL,
    UNIQUE (request_id, symbol)
) STRICT;

-- Executions of others that the books hold: adopted, corrected for, in the opening cash, or heard so long before an
-- agreement between ledger and broker (a minute, as risk reckons) that the account compared must have held them.
CREATE VIEW settled_executions AS
SELECT execution_id FROM adopted_executions
UNION SELECT c.value FROM cash_corrections, json_each(cash_corrections.covers) c
UNION SELECT f.execution_id FROM foreign_executions f JOIN account_seed s
    ON f.recorded_ns < s.at_ns OR (f.recorded_ns = s.at_ns AND f.turn_seq <= coalesce(s.turn_seq, f.turn_seq))
UNION SELECT f.execution_id FROM foreign_executions f
    WHERE f.recorded_ns <= (SELECT max(at_ns) FROM reconciliations WHERE differences = '[]') - 60000000000;
