-- Every statement of the store, by name. Parameters are named; amounts are micros.

-- name: put_meta
INSERT INTO meta (key, value) VALUES (:key, :value);

-- name: get_meta
SELECT value FROM meta WHERE key = :key;

-- name: newest_log_id
SELECT max(newest) FROM (
    SELECT max(log_id) AS newest FROM account_seed
    UNION ALL SELECT max(log_id) FROM intents
    UNION ALL SELECT max(log_id) FROM decisions
    UNION ALL SELECT max(log_id) FROM orders
    UNION ALL SELECT max(closed_log_id) FROM orders
    UNION ALL SELECT max(log_id) FROM order_events
    UNION ALL SELECT max(log_id) FROM fills
    UNION ALL SELECT max(log_id) FROM foreign_executions
    UNION ALL SELECT max(log_id) FROM fees
    UNION ALL SELECT max(log_id) FROM trades
    UNION ALL SELECT max(closed_log_id) FROM trades
    UNION ALL SELECT max(log_id) FROM exit_events
    UNION ALL SELECT max(log_id) FROM equity_snapshots
    UNION ALL SELECT max(log_id) FROM latch_events
    UNION ALL SELECT max(log_id) FROM reconciliations
    UNION ALL SELECT max(log_id) FROM strategy_failures
    UNION ALL SELECT max(log_id) FROM operator_answers
    UNION ALL SELECT max(log_id) FROM cash_corrections
    UNION ALL SELECT max(log_id) FROM position_settlements
);

-- name: insert_seed
INSERT INTO account_seed (only, log_id, cash_micros, equity_micros, at_ns, turn_seq)
VALUES (1, :log_id, :cash_micros, :equity_micros, :at_ns, :turn_seq);

-- name: insert_fee
INSERT INTO fees (log_id, activity_id, symbol, amount_micros, text, at_ns, in_opening_cash, turn_seq, recorded_ns)
VALUES (:log_id, :activity_id, :symbol, :amount_micros, :text, :at_ns, :in_opening_cash, :turn_seq, :recorded_ns);

-- name: load_fees
SELECT * FROM fees ORDER BY log_id;

-- name: insert_intent
INSERT INTO intents (log_id, intent_id, strategy, strategy_hash, underlying, legs, exit_plan, confidence,
    confidence_needed, reason, facts, valid_until_ns, turn_seq, recorded_ns)
VALUES (:log_id, :intent_id, :strategy, :strategy_hash, :underlying, :legs, :exit_plan, :confidence,
    :confidence_needed, :reason, :facts, :valid_until_ns, :turn_seq, :recorded_ns)
ON CONFLICT (intent_id) DO UPDATE SET repeats = repeats + 1;

-- name: insert_decision
INSERT INTO decisions (log_id, decision_id, intent_id, strategy, underlying, approved, contracts, bound_by,
    planned_risk_micros, worst_case_micros, equity_micros, equity_needed_micros, headroom, turn_seq, recorded_ns)
VALUES (:log_id, :decision_id, :intent_id, :strategy, :underlying, :approved, :contracts, :bound_by,
    :planned_risk_micros, :worst_case_micros, :equity_micros, :equity_needed_micros, :headroom, :turn_seq,
    :recorded_ns);

-- name: insert_refusal
INSERT INTO refusals (decision_id, position, rule, observed, "limit")
VALUES (:decision_id, :position, :rule, :observed, :limit);

-- name: insert_order
INSERT INTO orders (log_id, order_id, sequence, trade_id, decision_id, strategy, strategy_hash, underlying, purpose,
    symbol, side, contracts, order_type, worst_price_micros, decision_mid_micros, window_end_ns,
    planned_risk_micros, worst_case_micros, equity_micros, reason, config_fingerprint, message, turn_seq, recorded_ns)
VALUES (:log_id, :order_id, :sequence, :trade_id,
    (SELECT decision_id FROM decisions WHERE decision_id = :decision_id),
    :strategy, :strategy_hash, :underlying, :purpose, :symbol, :side, :contracts, :order_type, :worst_price_micros,
    :decision_mid_micros, :window_end_ns, :planned_risk_micros, :worst_case_micros, :equity_micros, :reason,
    :config_fingerprint, :message, :turn_seq, :recorded_ns);

-- name: insert_order_event
INSERT INTO order_events (log_id, order_id, client_order_id, attempt, step, from_state, to_state, filled, text,
    turn_seq, recorded_ns)
VALUES (:log_id, :order_id, :client_order_id, :attempt, :step, :from_state, :to_state, :filled, :text,
    :turn_seq, :recorded_ns);

-- name: advance_order
UPDATE orders SET state = :to_state, attempt = :attempt, step = :step WHERE order_id = :order_id;

-- name: close_order
UPDATE orders SET closed_log_id = :log_id, closed_ns = :recorded_ns, closed_filled = :filled, end_reason = :end
WHERE order_id = :order_id;

-- name: insert_fill
INSERT INTO fills (log_id, execution_id, order_id, client_order_id, broker_order_id, trade_id, strategy, symbol, side,
    purpose, contracts, price_micros, fees_broker_micros, fees_modelled_micros, at_ns, turn_seq, recorded_ns)
VALUES (:log_id, :execution_id, :order_id, :client_order_id, :broker_order_id, :trade_id, :strategy, :symbol, :side,
    :purpose, :contracts, :price_micros, :fees_broker_micros, :fees_modelled_micros, :at_ns, :turn_seq, :recorded_ns);

-- name: insert_foreign_execution
INSERT INTO foreign_executions (log_id, execution_id, client_order_id, symbol, side, qty, price_micros, turn_seq,
    recorded_ns)
VALUES (:log_id, :execution_id, :client_order_id, :symbol, :side, :qty, :price_micros, :turn_seq, :recorded_ns)
ON CONFLICT (execution_id) DO NOTHING;

-- name: open_trade
INSERT INTO trades (log_id, trade_id, strategy, strategy_hash, underlying, symbol, entry_order_id, feed, opened_ns,
    turn_seq, recorded_ns)
VALUES (:log_id, :trade_id, :strategy, :strategy_hash, :underlying, :symbol,
    (SELECT order_id FROM orders WHERE trade_id = :trade_id AND purpose = 'entry' ORDER BY log_id DESC LIMIT 1),
    :feed, :at_ns, :turn_seq, :recorded_ns);

-- name: close_trade
UPDATE trades SET closed_log_id = :log_id, closed_ns = :closed_ns, contracts = :contracts,
    entry_price_micros = :entry_price_micros, exit_price_micros = :exit_price_micros,
    gross_pnl_micros = :gross_pnl_micros, fees_broker_micros = :fees_broker_micros,
    fees_modelled_micros = :fees_modelled_micros, slippage_micros = :slippage_micros,
    slippage_bps = :slippage_bps, exit_rule = :exit_rule, closed_message = :message
WHERE trade_id = :trade_id AND opened_ns = :opened_ns AND closed_ns IS NULL;

-- name: insert_exit_event
INSERT INTO exit_events (log_id, trade_id, rule, observed, "limit", purpose, phase, turn_seq, recorded_ns)
VALUES (:log_id, :trade_id, :rule, :observed, :limit, :purpose, :phase, :turn_seq, :recorded_ns);

-- name: set_exit_phase
UPDATE trades SET exit_phase = :phase WHERE trade_id = :trade_id AND closed_ns IS NULL;

-- name: insert_latch_event
INSERT INTO latch_events (log_id, latch, active, reason, observed, "limit", until_date, at_ns, turn_seq,
    recorded_ns)
VALUES (:log_id, :latch, :active, :reason, :observed, :limit, :until_date, :at_ns, :turn_seq, :recorded_ns);

-- name: set_latch
INSERT INTO latches (latch, log_id) VALUES (:latch, :log_id)
ON CONFLICT (latch) DO UPDATE SET log_id = excluded.log_id;

-- name: insert_equity
INSERT INTO equity_snapshots (log_id, date, at_ns, kind, cash_micros, equity_micros, day_start_equity_micros,
    peak_equity_micros, realized_today_micros, unrealized_micros, marks_stale, marks, turn_seq, recorded_ns)
VALUES (:log_id, :date, :at_ns, :kind, :cash_micros, :equity_micros, :day_start_equity_micros, :peak_equity_micros,
    :realized_today_micros, :unrealized_micros, :marks_stale, :marks, :turn_seq, :recorded_ns);

-- name: open_session
INSERT INTO sessions (date, open_ns, close_ns, first_ns) VALUES (:date, :open_ns, :close_ns, :recorded_ns)
ON CONFLICT (date) DO UPDATE SET starts = starts + 1, open_ns = excluded.open_ns, close_ns = excluded.close_ns;

-- name: close_session
UPDATE sessions SET ended_ns = :recorded_ns WHERE date = :date;

-- What the embedded exchange tells at each start fills gaps alone (as options/iv_history.py does).
-- name: put_iv
INSERT INTO iv_history (underlying, date, iv_30d, source) VALUES (:underlying, :date, :iv_30d, :source)
ON CONFLICT (underlying, date) DO UPDATE SET iv_30d = excluded.iv_30d, source = excluded.source
WHERE excluded.source <> 'exchange' OR iv_history.source = 'exchange';

-- name: insert_reconciliation
INSERT INTO reconciliations (log_id, at_ns, reason, differences, turn_seq, recorded_ns)
VALUES (:log_id, :at_ns, :reason, :differences, :turn_seq, :recorded_ns);

-- name: insert_strategy_failure
INSERT INTO strategy_failures (log_id, strategy, error, turn_seq, recorded_ns)
VALUES (:log_id, :strategy, :error, :turn_seq, :recorded_ns);

-- name: insert_operator_answer
INSERT INTO operator_answers (log_id, request_id, action, who, why, ok, done, text, facts, at_ns, turn_seq, recorded_ns)
VALUES (:log_id, :request_id, :action, :who, :why, :ok, :done, :text, :facts, :at_ns, :turn_seq, :recorded_ns);

-- name: insert_adopted_execution
INSERT INTO adopted_executions (execution_id, log_id, order_id) VALUES (:execution_id, :log_id, :order_id);

-- name: insert_cash_correction
INSERT INTO cash_corrections (log_id, request_id, symbol, amount_micros, who, why, covers, at_ns, turn_seq, recorded_ns)
VALUES (:log_id, :request_id, :symbol, :amount_micros, :who, :why, :covers, :at_ns, :turn_seq, :recorded_ns);

-- name: insert_settlement
INSERT INTO position_settlements (log_id, settlement_id, trade_id, ending, symbol, contracts, price_micros,
    shares_symbol, shares, share_price_micros, fees_modelled_micros, source, covers, at_ns, turn_seq, recorded_ns)
VALUES (:log_id, :settlement_id, :trade_id, :ending, :symbol, :contracts, :price_micros, :shares_symbol, :shares,
    :share_price_micros, :fees_modelled_micros, :source, :covers, :at_ns, :turn_seq, :recorded_ns);

-- name: load_settlements
SELECT * FROM position_settlements ORDER BY log_id;

-- name: load_cash_corrections
SELECT * FROM cash_corrections ORDER BY log_id;

-- name: load_operator_answers
SELECT * FROM operator_answers ORDER BY log_id;

-- name: load_settled
SELECT execution_id FROM settled_executions ORDER BY execution_id;

-- name: read_operator_answers
SELECT * FROM operator_answers ORDER BY log_id DESC LIMIT :limit;

-- name: read_unsettled
SELECT * FROM foreign_executions WHERE execution_id NOT IN (SELECT execution_id FROM settled_executions)
ORDER BY log_id DESC LIMIT :limit;

-- name: load_next_sequence
SELECT coalesce(max(sequence), 0) + 1 FROM orders;

-- name: load_seed
SELECT * FROM account_seed;

-- name: load_submits
SELECT log_id, message, recorded_ns FROM orders ORDER BY log_id;

-- name: load_order_ends
SELECT closed_log_id AS log_id, order_id, trade_id, purpose, closed_filled AS filled, contracts, end_reason AS "end"
FROM orders WHERE closed_log_id IS NOT NULL ORDER BY closed_log_id;

-- name: load_order_events
SELECT * FROM order_events ORDER BY log_id;

-- name: load_fills
SELECT * FROM fills ORDER BY log_id;

-- name: load_foreign
SELECT * FROM foreign_executions ORDER BY log_id;

-- name: load_opened
SELECT log_id, trade_id, strategy, strategy_hash, underlying, symbol, opened_ns AS at_ns FROM trades ORDER BY log_id;

-- name: load_closed
SELECT closed_log_id AS log_id, closed_message AS message FROM trades
WHERE closed_log_id IS NOT NULL ORDER BY closed_log_id;

-- name: load_triggered
SELECT * FROM exit_events WHERE rule IS NOT NULL ORDER BY log_id;

-- name: load_phases
SELECT * FROM exit_events WHERE phase IS NOT NULL
    AND trade_id IN (SELECT trade_id FROM trades WHERE closed_ns IS NULL) ORDER BY log_id;

-- name: load_latches
SELECT e.* FROM latches l JOIN latch_events e USING (log_id) ORDER BY e.log_id;

-- name: load_latch_events
SELECT * FROM latch_events ORDER BY log_id;

-- name: load_equity
SELECT * FROM equity_snapshots WHERE log_id IN (SELECT max(log_id) FROM equity_snapshots GROUP BY kind)
ORDER BY log_id;

-- name: load_session
SELECT date, open_ns, close_ns FROM sessions ORDER BY date DESC LIMIT 1;

-- name: load_intents
SELECT * FROM intents WHERE recorded_ns >= coalesce((SELECT max(open_ns) FROM sessions), 0) ORDER BY log_id;

-- name: load_failures
SELECT * FROM strategy_failures ORDER BY log_id;

-- name: load_iv
SELECT * FROM iv_history ORDER BY underlying, date;

-- name: load_results
SELECT strategy, strategy_hash, count(*) AS trades,
    sum(net_pnl_micros > 0) AS wins, sum(net_pnl_micros < 0) AS losses,
    sum(max(net_pnl_micros, 0)) AS won_micros, sum(max(-net_pnl_micros, 0)) AS lost_micros,
    sum(gross_pnl_micros) AS gross_pnl_micros, sum(fees_modelled_micros) AS fees_modelled_micros
FROM trades WHERE closed_ns IS NOT NULL GROUP BY strategy, strategy_hash ORDER BY strategy, strategy_hash;

-- name: read_flows
-- What moved positions, in order. A settlement leaves `signed` to the reader: it brings what is held nearer to zero.
SELECT log_id, 0 AS part, symbol, CASE side WHEN 'buy' THEN contracts ELSE -contracts END AS signed, 0 AS leaving,
    price_micros
FROM fills
UNION ALL
SELECT log_id, 0, symbol, 0, contracts, price_micros FROM position_settlements
UNION ALL
SELECT log_id, 1, shares_symbol, shares, 0, share_price_micros FROM position_settlements WHERE shares <> 0
ORDER BY log_id, part;

-- name: read_trade_flows
-- What moved one round trip, in order; `leaving` as in read_flows.
SELECT f.log_id AS log_id, 0 AS part, f.symbol AS symbol, CASE f.side WHEN 'buy' THEN f.contracts ELSE -f.contracts END AS signed,
    0 AS leaving, f.price_micros AS price_micros
FROM trades t JOIN fills f ON f.trade_id = t.trade_id
    AND f.recorded_ns >= t.recorded_ns AND f.log_id < coalesce(t.closed_log_id, f.log_id + 1)
WHERE t.log_id = :log_id
UNION ALL
SELECT s.log_id, 0, s.symbol, 0, s.contracts, s.price_micros
FROM trades t JOIN position_settlements s ON s.trade_id = t.trade_id
    AND s.recorded_ns >= t.recorded_ns AND s.log_id < coalesce(t.closed_log_id, s.log_id + 1)
WHERE t.log_id = :log_id
UNION ALL
SELECT s.log_id, 1, s.shares_symbol, s.shares, 0, s.share_price_micros
FROM trades t JOIN position_settlements s ON s.trade_id = t.trade_id AND s.shares <> 0
    AND s.recorded_ns >= t.recorded_ns AND s.log_id < coalesce(t.closed_log_id, s.log_id + 1)
WHERE t.log_id = :log_id
ORDER BY log_id, part;

-- name: read_open_entries
-- The entries of trades that are open. A trade that was opened again begins with the turn of its new opening.
SELECT t.trade_id, t.opened_ns, o.message, o.closed_ns IS NOT NULL AS entry_over
FROM trades t JOIN orders o ON o.order_id = t.entry_order_id WHERE t.closed_ns IS NULL ORDER BY t.trade_id;

-- name: read_open_fills
SELECT f.*, o.message FROM trades t
JOIN fills f ON f.trade_id = t.trade_id AND f.recorded_ns >= t.recorded_ns
JOIN orders o ON o.order_id = f.order_id
WHERE t.closed_ns IS NULL ORDER BY f.log_id;

-- name: read_open_settlements
SELECT s.* FROM trades t
JOIN position_settlements s ON s.trade_id = t.trade_id AND s.recorded_ns >= t.recorded_ns
WHERE t.closed_ns IS NULL ORDER BY s.log_id;

-- name: read_settlements
SELECT * FROM position_settlements WHERE :trade_id IS NULL OR trade_id = :trade_id ORDER BY log_id DESC LIMIT :limit;

-- name: read_orders
SELECT log_id, order_id, sequence, trade_id, decision_id, strategy, strategy_hash, underlying, purpose, symbol, side,
    contracts, order_type, worst_price_micros, decision_mid_micros, window_end_ns, planned_risk_micros,
    worst_case_micros, equity_micros, reason, config_fingerprint, message, turn_seq, recorded_ns, state, attempt, step,
    (SELECT json_group_object(symbol, contracts) FROM (SELECT f.symbol, sum(f.contracts) AS contracts FROM fills f
        WHERE f.order_id = o.order_id GROUP BY f.symbol)) AS filled,
    closed_log_id, closed_ns, closed_filled, end_reason
FROM orders o ORDER BY log_id DESC LIMIT :limit;

-- name: read_working_orders
SELECT log_id, order_id, sequence, trade_id, decision_id, strategy, strategy_hash, underlying, purpose, symbol, side,
    contracts, order_type, worst_price_micros, decision_mid_micros, window_end_ns, planned_risk_micros,
    worst_case_micros, equity_micros, reason, config_fingerprint, message, turn_seq, recorded_ns, state, attempt, step,
    (SELECT json_group_object(symbol, contracts) FROM (SELECT f.symbol, sum(f.contracts) AS contracts FROM fills f
        WHERE f.order_id = o.order_id GROUP BY f.symbol)) AS filled,
    closed_log_id, closed_ns, closed_filled, end_reason
FROM orders o WHERE closed_log_id IS NULL ORDER BY log_id DESC LIMIT :limit;

-- name: read_order_events
SELECT * FROM order_events WHERE order_id = :order_id ORDER BY log_id;

-- name: read_trades
SELECT * FROM trade_facts
WHERE (:strategy IS NULL OR strategy = :strategy) AND (:open_only = 0 OR closed_ns IS NULL)
ORDER BY log_id DESC LIMIT :limit;

-- name: read_decisions
SELECT d.*, i.reason AS reason, i.facts AS facts FROM decisions d JOIN intents i USING (intent_id)
ORDER BY d.log_id DESC LIMIT :limit;

-- name: read_refusals
SELECT rule, observed, "limit" FROM refusals WHERE decision_id = :decision_id ORDER BY position;

-- name: read_equity
SELECT * FROM equity_snapshots WHERE at_ns >= :since_ns ORDER BY log_id;

-- name: read_sessions
SELECT * FROM session_summary ORDER BY date DESC LIMIT :limit;

-- name: read_last_equity
SELECT * FROM equity_snapshots ORDER BY log_id DESC LIMIT 1;

-- name: read_last_session
SELECT * FROM session_summary ORDER BY date DESC LIMIT 1;

-- name: read_last_reconcile
SELECT * FROM reconciliations ORDER BY log_id DESC LIMIT 1;

-- name: read_meta
SELECT key, value FROM meta;

-- name: read_active_latches
SELECT e.* FROM latches l JOIN latch_events e USING (log_id) WHERE e.active = 1 ORDER BY e.log_id;

-- name: read_counts
SELECT
    (SELECT count(*) FROM orders WHERE closed_log_id IS NULL) AS working_orders,
    (SELECT count(*) FROM orders WHERE closed_log_id IS NULL AND state = 'unknown') AS unknown_orders,
    (SELECT count(*) FROM trades WHERE closed_ns IS NULL) AS open_trades,
    (SELECT count(*) FROM trades WHERE closed_ns IS NOT NULL) AS closed_trades,
    (SELECT count(*) FROM position_settlements) AS settlements,
    (SELECT count(*) FROM foreign_executions) AS foreign_executions;
