-- Cash that came (+) or left (-) without a trade: deposits, withdrawals, journals, interest paid to the account. It is in
-- no trade's and no day's result: the day's start and the equity peak move with it, and returns are time-weighted.
CREATE TABLE cash_transfers (
    log_id        INTEGER PRIMARY KEY,
    activity_id   TEXT NOT NULL UNIQUE, -- the broker's
    kind          TEXT NOT NULL,        -- the broker's word: CSD, CSW, JNLC, ACATC, INT
    amount_micros INTEGER NOT NULL CHECK (amount_micros <> 0),
    date          TEXT NOT NULL,        -- the broker's own, New York; "" when it told none
    text          TEXT NOT NULL,
    at_ns         INTEGER NOT NULL,     -- when it was booked
    turn_seq      INTEGER NOT NULL,
    recorded_ns   INTEGER NOT NULL
) STRICT;
CREATE INDEX cash_transfers_by_time ON cash_transfers (at_ns);

-- Ids of the broker's movements of cash that were listed when the books began, as JSON: the opening cash has them in it.
-- NULL: seeded before this schema.
ALTER TABLE account_seed ADD COLUMN holds TEXT;
