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
    UNION ALL SELECT max(closed_log_id) FROM orders WHERE closed_log_id IS NOT NULL
    UNION ALL SELECT max(log_id) FROM order_events
    UNION ALL SELECT max(log_id) FROM fills
    UNION ALL SELECT max(log_id) FROM foreign_executions
    UNION ALL SELECT max(log_id) FROM fees
    UNION ALL SELECT max(log_id) FROM trades
    UNION ALL SELECT max(closed_log_id) FROM trades WHERE closed_log_id IS NOT NULL
    UNION ALL SELECT max(log_id) FROM exit_events
    UNION ALL SELECT max(log_id) FROM equity_snapshots
    UNION ALL SELECT max(log_id) FROM latch_events
    UNION ALL SELECT max(log_id) FROM reconciliations
    UNION ALL SELECT max(log_id) FROM strategy_failures
    UNION ALL SELECT max(log_id) FROM operator_answers
    UNION ALL SELECT max(log_id) FROM cash_corrections
    UNION ALL SELECT max(log_id) FROM position_settlements
    UNION ALL SELECT max(log_id) FROM session_notes
    UNION ALL SELECT max(log_id) FROM strategy_criteria
    UNION ALL SELECT max(log_id) FROM cash_transfers
);

-- name: insert_seed
INSERT INTO account_seed (only, log_id, cash_micros, equity_micros, at_ns, turn_seq, holds)
VALUES (1, :log_id, :cash_micros, :equity_micros, :at_ns, :turn_seq, :holds);

-- name: insert_fee
INSERT INTO fees (log_id, activity_id, symbol, amount_micros, text, at_ns, in_opening_cash, turn_seq, recorded_ns)
VALUES (:log_id, :activity_id, :symbol, :amount_micros, :text, :at_ns, :in_opening_cash, :turn_seq, :recorded_ns);

-- name: load_fees
SELECT * FROM fees ORDER BY log_id;

-- name: insert_cash_transfer
INSERT INTO cash_transfers (log_id, activity_id, kind, amount_micros, date, text, at_ns, turn_seq, recorded_ns)
VALUES (:log_id, :activity_id, :kind, :amount_micros, :date, :text, :at_ns, :turn_seq, :recorded_ns);

-- name: load_cash_transfers
SELECT * FROM cash_transfers ORDER BY log_id;

-- name: load_unmarked_transfers
SELECT * FROM cash_transfers WHERE log_id > coalesce((SELECT max(log_id) FROM equity_snapshots), 0) ORDER BY log_id;

-- name: read_cash_transfers
SELECT * FROM cash_transfers ORDER BY log_id DESC LIMIT :limit;

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

-- name: insert_session_note
INSERT INTO session_notes (log_id, request_id, date, who, text, at_ns, turn_seq, recorded_ns)
VALUES (:log_id, :request_id, :session, :who, :text, :at_ns, :turn_seq, :recorded_ns);

-- name: tighten_criterion
-- Where something stricter has been written meanwhile by other hands, that stands: a trigger would refuse this one.
INSERT INTO strategy_criteria (strategy, criterion, value, "before", request_id, who, why, at_ns, log_id, turn_seq,
    recorded_ns)
SELECT :strategy, :criterion, :value, :before, :request_id, :who, :why, :at_ns, :log_id, :turn_seq, :recorded_ns
WHERE NOT EXISTS (SELECT 1 FROM strategy_criteria c WHERE c.strategy = :strategy AND c.criterion = :criterion
    AND CASE :criterion WHEN 'max_drawdown' THEN c.value < :value ELSE c.value > :value END)
ON CONFLICT (strategy, criterion) DO UPDATE SET value = excluded.value, "before" = excluded."before",
    request_id = excluded.request_id, who = excluded.who, why = excluded.why, at_ns = excluded.at_ns,
    log_id = excluded.log_id, turn_seq = excluded.turn_seq, recorded_ns = excluded.recorded_ns;

-- name: load_criteria
SELECT coalesce(request_id, '') AS request_id, strategy, criterion, value, coalesce("before", value) AS before, who, why,
    at_ns
FROM strategy_criteria ORDER BY log_id, strategy, criterion;

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

-- name: report_plans
-- When each closed trade was to be flat, by the log_id of its end.
SELECT closed_log_id AS log_id, json_extract(exit_plan, '$.flat_ns') AS flat_ns
FROM trade_facts WHERE closed_log_id IS NOT NULL;

-- name: report_closes
SELECT date, close_ns FROM sessions;

-- name: report_breakers
-- Breakers that were set with the time of their end, strategies that raised, and what operators asked for, newest first.
SELECT e.log_id AS log_id, 'breaker' AS kind, e.latch AS what, e.reason AS why, e.observed AS observed, e."limit" AS "limit",
    e.until_date AS until_date, coalesce(e.at_ns, e.recorded_ns) AS at_ns,
    (SELECT min(x.recorded_ns) FROM latch_events x
      WHERE x.latch = e.latch AND x.active = 0 AND x.log_id > e.log_id) AS ended_ns
FROM latch_events e WHERE e.active = 1
UNION ALL
SELECT log_id, 'failure', strategy || ' failed', error, '', '', NULL, recorded_ns, NULL FROM strategy_failures
UNION ALL
SELECT log_id, 'operator', action || ' by ' || who, CASE why WHEN '' THEN text ELSE why END, '', '', NULL, at_ns, NULL
FROM operator_answers WHERE done = 1 AND action <> 'note'
ORDER BY log_id DESC;

-- name: report_notes
SELECT date AS session, text, who FROM session_notes ORDER BY date DESC, log_id DESC;

-- name: fold_sessions
SELECT date, open_ns, close_ns, ended_ns FROM sessions WHERE date > :after ORDER BY date;

-- name: fold_flows
-- What moved trades: of a settlement `signed` is what left, whichever side was held. All events of the fold begin with
-- the message, its rank among those of one message, the kind and the time.
SELECT f.log_id, 0, 'fill', f.recorded_ns, f.trade_id, f.symbol,
    CASE f.side WHEN 'buy' THEN f.contracts ELSE -f.contracts END, f.price_micros, f.fees_modelled_micros, f.at_ns,
    o.strategy, o.strategy_hash
FROM fills f JOIN orders o ON o.order_id = f.order_id WHERE f.log_id > :after AND f.log_id <= :up_to
UNION ALL
SELECT log_id, 0, 'settlement', recorded_ns, trade_id, symbol, contracts, price_micros, fees_modelled_micros, at_ns,
    NULL, NULL
FROM position_settlements WHERE log_id > :after AND log_id <= :up_to
UNION ALL
SELECT log_id, 1, 'shares', recorded_ns, trade_id, shares_symbol, shares, share_price_micros, 0, at_ns, NULL, NULL
FROM position_settlements WHERE shares <> 0 AND log_id > :after AND log_id <= :up_to;

-- name: fold_closed
SELECT closed_log_id, 2, 'closed', recorded_ns, trade_id, gross_pnl_micros, closed_ns
FROM trades WHERE closed_log_id > :after AND closed_log_id <= :up_to;

-- name: fold_marks
SELECT log_id, 3, 'mark', recorded_ns, date, kind, cash_micros, equity_micros, day_start_equity_micros, marks
FROM equity_snapshots WHERE log_id > :after AND log_id <= :up_to;

-- name: fold_money
SELECT log_id, 3, 'transfer', recorded_ns, amount_micros FROM cash_transfers WHERE log_id > :after AND log_id <= :up_to
UNION ALL
SELECT log_id, 3, 'seed', at_ns, equity_micros FROM account_seed WHERE log_id > :after AND log_id <= :up_to;

-- name: fold_wished
SELECT log_id, 4, 'intent', recorded_ns, strategy, strategy_hash FROM intents
WHERE log_id > :after AND log_id <= :up_to;

-- name: fold_starts
SELECT after_log_id, 5, 'start', at_ns, strategy, strategy_hash FROM strategy_starts WHERE at_ns > :start_ns
ORDER BY at_ns, strategy;

-- name: performance_keys
-- Every set of parameters on record, and the account.
SELECT 'account' AS strategy, '' AS strategy_hash
UNION SELECT strategy, strategy_hash FROM trades
UNION SELECT strategy, strategy_hash FROM intents
UNION SELECT strategy, strategy_hash FROM strategy_starts
ORDER BY strategy, strategy_hash;

-- name: performance_trades
-- Round trips that are over, in the order in which they count. Contracts of legs: what fees are paid on, no shares.
SELECT t.closed_log_id AS log_id, t.trade_id, t.strategy, t.strategy_hash, t.underlying, t.symbol, t.opened_ns,
    t.closed_ns, r.session AS session, t.contracts,
    (SELECT coalesce(sum(f.contracts), 0) FROM fills f
      WHERE f.trade_id = t.trade_id AND f.recorded_ns >= t.recorded_ns AND f.log_id < t.closed_log_id
        AND length(f.symbol) > 10) AS leg_contracts,
    t.gross_pnl_micros, r.net AS net_micros, t.fees_modelled_micros, t.fees_broker_micros, t.slippage_micros,
    t.slippage_bps, o.planned_risk_micros, o.worst_case_micros, o.equity_micros, e.mae_micros, e.mfe_micros,
    t.exit_rule, t.feed
FROM trades t
JOIN trade_results r ON r.log_id = t.closed_log_id
JOIN orders o ON o.order_id = t.entry_order_id
LEFT JOIN trade_extremes e ON e.log_id = t.closed_log_id
WHERE t.closed_log_id > :after AND t.closed_log_id <= :up_to
    AND (:strategy IS NULL OR (t.strategy = :strategy AND t.strategy_hash = :strategy_hash))
ORDER BY t.closed_log_id;

-- name: performance_days
SELECT date, pnl_micros, start_equity_micros, transfers_micros, open_ns, session_ns FROM strategy_days
WHERE strategy = :strategy AND strategy_hash = :strategy_hash AND date <= :up_to ORDER BY date;

-- name: performance_criteria
SELECT criterion, value FROM strategy_criteria WHERE strategy = :strategy ORDER BY criterion;

-- name: count_parameter_sets
SELECT count(*) FROM (SELECT strategy_hash FROM parameter_sets WHERE strategy = :strategy AND mode <> 'live'
    UNION SELECT strategy_hash FROM trades
    WHERE strategy = :strategy AND (SELECT value FROM meta WHERE key = 'mode') <> 'live');

-- name: ended_entry
-- The entry of the trade that ended with a message: its exit plan bounds the win rate.
SELECT t.entry_price_micros AS price_micros, o.message AS message,
    (SELECT coalesce(sum(f.fees_modelled_micros), 0) FROM fills f WHERE f.trade_id = t.trade_id) AS fees_micros,
    (SELECT coalesce(sum(f.contracts), 0) FROM fills f
      WHERE f.trade_id = t.trade_id AND length(f.symbol) > 10) AS leg_contracts
FROM trades t JOIN orders o ON o.order_id = t.entry_order_id WHERE t.closed_log_id = :log_id;

-- name: put_parameter_set
INSERT INTO parameter_sets (strategy, strategy_hash, mode, params, first_seen_ns, last_seen_ns)
VALUES (:strategy, :strategy_hash, (SELECT value FROM meta WHERE key = 'mode'), :params, :at_ns, :at_ns)
ON CONFLICT (strategy, strategy_hash, mode) DO UPDATE SET last_seen_ns = max(last_seen_ns, excluded.last_seen_ns);

-- name: put_strategy_start
INSERT INTO strategy_starts (at_ns, strategy, strategy_hash, after_log_id)
VALUES (:at_ns, :strategy, :strategy_hash, :after_log_id) ON CONFLICT DO NOTHING;

-- name: put_strategy_days
INSERT INTO strategy_days (strategy, strategy_hash, date, pnl_micros, start_equity_micros, transfers_micros, open_ns,
    session_ns)
VALUES (:strategy, :strategy_hash, :date, :pnl_micros, :start_equity_micros, :transfers_micros, :open_ns, :session_ns)
ON CONFLICT (strategy, strategy_hash, date) DO UPDATE SET pnl_micros = excluded.pnl_micros,
    start_equity_micros = excluded.start_equity_micros, transfers_micros = excluded.transfers_micros,
    open_ns = excluded.open_ns, session_ns = excluded.session_ns;

-- name: put_trade_extremes
INSERT INTO trade_extremes (log_id, mae_micros, mfe_micros, marks) VALUES (:log_id, :mae_micros, :mfe_micros, :marks)
ON CONFLICT (log_id) DO UPDATE SET mae_micros = excluded.mae_micros, mfe_micros = excluded.mfe_micros,
    marks = excluded.marks;

-- name: put_strategy_performance
-- Statistics alone: the counts are the trigger's. What is as of an earlier trade does not replace a later one's.
INSERT INTO strategy_performance (strategy, strategy_hash, month, mode, stats_log_id, stats_date, win_rate,
    expectancy_usd, expectancy_r, profit_factor, sharpe, sortino, max_drawdown, exposure, figures, score, ready, reason,
    assessment, inputs)
VALUES (:strategy, :strategy_hash, :month, :mode, :stats_log_id, :stats_date, :win_rate, :expectancy_usd,
    :expectancy_r, :profit_factor, :sharpe, :sortino, :max_drawdown, :exposure, :figures, :score, :ready, :reason,
    :assessment, :inputs)
ON CONFLICT (strategy, strategy_hash, month, mode) DO UPDATE SET stats_log_id = excluded.stats_log_id,
    stats_date = excluded.stats_date, win_rate = excluded.win_rate, expectancy_usd = excluded.expectancy_usd,
    expectancy_r = excluded.expectancy_r, profit_factor = excluded.profit_factor, sharpe = excluded.sharpe,
    sortino = excluded.sortino, max_drawdown = excluded.max_drawdown, exposure = excluded.exposure,
    figures = excluded.figures, score = excluded.score, ready = excluded.ready, reason = excluded.reason,
    assessment = excluded.assessment, inputs = excluded.inputs
WHERE coalesce(stats_log_id, -1) <= excluded.stats_log_id AND coalesce(stats_date, '') <= excluded.stats_date;

-- name: put_performance_snapshots
INSERT OR REPLACE INTO performance_snapshots (date, mode, account, log_id, balance_micros, equity_micros,
    day_pnl_micros, cumulative_pnl_micros, day_trades, trades, wins, losses, scratches, win_rate, profit_factor, sharpe,
    drawdown, max_drawdown, breakers, streak, win_streak, loss_streak, largest_loss_micros)
VALUES (:date, :mode, :account, :log_id, :balance_micros, :equity_micros, :day_pnl_micros, :cumulative_pnl_micros,
    :day_trades, :trades, :wins, :losses, :scratches, :win_rate, :profit_factor, :sharpe, :drawdown, :max_drawdown,
    :breakers, :streak, :win_streak, :loss_streak, :largest_loss_micros);

-- name: put_trading_sessions
INSERT OR REPLACE INTO trading_sessions (date, mode, log_id, trades, strategies, vix_open, vix_close, regime,
    pnl_micros, breakers, interventions, notes)
VALUES (:date, :mode, :log_id, :trades, :strategies, :vix_open, :vix_close, :regime, :pnl_micros, :breakers,
    :interventions, :notes);

-- name: read_trading_sessions
SELECT * FROM trading_sessions WHERE date >= :since ORDER BY date;

-- name: read_performance_snapshots
SELECT * FROM performance_snapshots WHERE date >= :since ORDER BY date;

-- name: derived_marks
-- How far each derived table is: nothing up to there may be missing.
SELECT (SELECT max(log_id) FROM trade_extremes) AS extremes_log_id,
    (SELECT max(date) FROM performance_snapshots) AS snapshots_date,
    (SELECT max(date) FROM strategy_days) AS days_date,
    (SELECT max(date) FROM trading_sessions) AS sessions_date;

-- name: session_facts
-- What a session holds, from its open to the next one's, up to a message; and the last message that is in it.
WITH span AS (SELECT s.open_ns AS begins, coalesce((SELECT min(n.open_ns) FROM sessions n
    WHERE n.open_ns > s.open_ns), 9223372036854775807) AS ends FROM sessions s WHERE s.date = :date),
wished AS (SELECT i.log_id, i.strategy AS name FROM intents i, span
    WHERE i.recorded_ns >= begins AND i.recorded_ns < ends AND i.log_id <= :up_to),
traded AS (SELECT t.closed_log_id AS log_id, t.strategy AS name FROM trades t, span
    WHERE t.closed_ns >= begins AND t.closed_ns < ends AND t.closed_log_id <= :up_to),
broke AS (SELECT l.log_id, l.latch AS name FROM latch_events l, span
    WHERE l.active = 1 AND l.recorded_ns >= begins AND l.recorded_ns < ends AND l.log_id <= :up_to),
asked AS (SELECT a.log_id, a.request_id AS name FROM operator_answers a, span
    WHERE a.action <> 'note' AND a.recorded_ns >= begins AND a.recorded_ns < ends AND a.log_id <= :up_to),
noted AS (SELECT n.log_id, json_object('who', n.who, 'text', n.text, 'at_ns', n.at_ns) AS note FROM session_notes n
    WHERE n.date = :date AND n.log_id <= :up_to)
SELECT
    (SELECT count(*) FROM traded) AS trades,
    (SELECT json_group_array(name) FROM (SELECT name FROM wished UNION SELECT name FROM traded ORDER BY 1)) AS strategies,
    (SELECT json_group_array(name) FROM (SELECT name FROM broke ORDER BY log_id)) AS breakers,
    (SELECT count(DISTINCT name) FROM asked) AS interventions,
    (SELECT json_group_array(json(note)) FROM (SELECT note FROM noted ORDER BY log_id)) AS notes,
    (SELECT iv_30d * 100 FROM iv_history v WHERE v.underlying = 'VIX' AND v.date = :date) AS vix_close,
    max(coalesce((SELECT max(log_id) FROM wished), 0), coalesce((SELECT max(log_id) FROM traded), 0),
        coalesce((SELECT max(log_id) FROM broke), 0), coalesce((SELECT max(log_id) FROM asked), 0),
        coalesce((SELECT max(log_id) FROM noted), 0)) AS log_id
FROM span;

-- name: breakers_between
SELECT json_group_array(latch) FROM (SELECT latch FROM latch_events
    WHERE active = 1 AND log_id > :after AND log_id <= :up_to ORDER BY log_id);

-- name: sessions_with_later_notes
-- Or with a VIX that was told after their row was made.
SELECT s.date FROM trading_sessions s
WHERE EXISTS (SELECT 1 FROM session_notes n WHERE n.date = s.date AND n.log_id > s.log_id)
    OR (s.vix_close IS NULL AND EXISTS (SELECT 1 FROM iv_history v WHERE v.underlying = 'VIX' AND v.date = s.date))
ORDER BY s.date;

-- name: stats_marks
SELECT strategy, strategy_hash, month, stats_log_id, stats_date, inputs FROM strategy_performance
WHERE strategy = :strategy AND strategy_hash = :strategy_hash;

-- name: report_starts
SELECT strategy, strategy_hash, max(at_ns) AS at_ns FROM strategy_starts GROUP BY strategy, strategy_hash;

-- name: check_orders
SELECT log_id, 0, 'order', order_id, message, purpose FROM orders WHERE log_id > :after AND log_id <= :up_to;

-- name: check_orders_whole
SELECT log_id, 0, 'order', order_id, message, purpose, trade_id, strategy, strategy_hash, planned_risk_micros,
    worst_case_micros, equity_micros
FROM orders WHERE log_id > :after AND log_id <= :up_to;

-- name: check_fills
SELECT log_id, 1, 'fill', execution_id, order_id, trade_id, strategy, symbol, side, purpose, contracts,
    price_micros, fees_broker_micros, fees_modelled_micros, at_ns
FROM fills WHERE log_id > :after AND log_id <= :up_to;

-- name: check_settlements
SELECT log_id, 1, 'settlement', settlement_id FROM position_settlements WHERE log_id > :after AND log_id <= :up_to;

-- name: check_settlement
SELECT * FROM position_settlements WHERE log_id = :log_id;

-- name: check_order_ends
-- Of entries: the end of another order ends no trade.
SELECT closed_log_id, 2, 'end', order_id, trade_id, closed_ns FROM orders
WHERE closed_log_id > :after AND closed_log_id <= :up_to AND purpose = 'entry';

-- name: check_exits
SELECT log_id, 2, 'exit', trade_id, rule FROM exit_events WHERE rule IS NOT NULL AND log_id > :after AND log_id <= :up_to;

-- name: check_trades
SELECT * FROM trades ORDER BY log_id;

-- name: mend_trade
UPDATE trades SET closed_ns = :closed_ns, contracts = :contracts, entry_price_micros = :entry_price_micros,
    exit_price_micros = :exit_price_micros, gross_pnl_micros = :gross_pnl_micros,
    fees_broker_micros = :fees_broker_micros, fees_modelled_micros = :fees_modelled_micros,
    slippage_micros = :slippage_micros, slippage_bps = :slippage_bps, exit_rule = :exit_rule, closed_message = :message
WHERE log_id = :log_id;

-- name: export_trades
SELECT t.trade_id, t.strategy, t.strategy_hash, t.mode, t.underlying, t.symbol, t.side, t.contracts, t.opened_ns, t.closed_ns,
    t.entry_price_micros, t.exit_price_micros, t.expected_entry_micros, t.expected_exit_micros, t.gross_pnl_micros,
    t.fees_modelled_micros, t.fees_broker_micros, t.net_pnl_micros, t.slippage_micros, t.slippage_bps,
    t.planned_risk_micros, t.worst_case_micros, t.equity_micros AS account_equity_micros, x.mae_micros, x.mfe_micros,
    t.exit_rule, t.feed, t.confidence, t.reason, t.legs, t.exit_plan, t.config_fingerprint
FROM trade_facts t LEFT JOIN trade_extremes x ON x.log_id = t.closed_log_id ORDER BY t.log_id;

-- name: export_fills
SELECT execution_id, order_id, client_order_id, broker_order_id, trade_id, strategy, symbol, side, purpose, contracts,
    price_micros, fees_broker_micros, fees_modelled_micros, at_ns AS executed_ns
FROM fills ORDER BY log_id;

-- name: export_settlements
SELECT settlement_id, trade_id, ending, symbol, contracts, price_micros, shares_symbol, shares, share_price_micros,
    fees_modelled_micros, source, at_ns AS settled_ns
FROM position_settlements ORDER BY log_id;

-- name: export_days
SELECT strategy, strategy_hash, date, pnl_micros, start_equity_micros, transfers_micros, open_ns, session_ns
FROM strategy_days ORDER BY strategy, strategy_hash, date;

-- name: export_snapshots
SELECT date, mode, account, balance_micros, equity_micros, day_pnl_micros, cumulative_pnl_micros, day_trades, trades, wins,
    losses, scratches, win_rate, profit_factor, sharpe, drawdown, max_drawdown, breakers, streak, win_streak, loss_streak,
    largest_loss_micros
FROM performance_snapshots ORDER BY date, mode, account;

-- name: track_performance
SELECT trades, net_pnl_micros, figures, score, ready, assessment FROM strategy_performance
WHERE strategy = :strategy AND strategy_hash = :strategy_hash AND month = 'all'
    AND mode = (SELECT value FROM meta WHERE key = 'mode');

-- name: track_days
-- What the newest session brought and what all known ones did; NULL is unknown.
SELECT sum(pnl_micros) AS sum_micros, (SELECT pnl_micros FROM strategy_days n WHERE n.strategy = :strategy
        AND n.strategy_hash = :strategy_hash ORDER BY n.date DESC LIMIT 1) AS newest_micros
FROM strategy_days WHERE strategy = :strategy AND strategy_hash = :strategy_hash;

-- name: statistics_behind
-- Whether a trade has ended that is in no statistics yet, or a session that has no snapshot.
SELECT EXISTS (SELECT 1 FROM strategy_performance WHERE coalesce(stats_log_id, -1) < last_log_id)
    OR EXISTS (SELECT 1 FROM sessions s WHERE s.ended_ns IS NOT NULL
        AND s.date > coalesce((SELECT max(date) FROM performance_snapshots), '')) AS behind;

-- name: review_sessions
SELECT date, open_ns, close_ns FROM sessions ORDER BY date;

-- name: review_equity
SELECT * FROM equity_snapshots WHERE date = :date ORDER BY log_id DESC LIMIT 1;

-- name: review_breakers
-- Latches set from a session's open to the next session's, each once.
SELECT latch FROM latch_events WHERE active = 1
    AND recorded_ns >= (SELECT open_ns FROM sessions WHERE date = :date)
    AND recorded_ns < coalesce((SELECT min(open_ns) FROM sessions WHERE date > :date), 9223372036854775807)
GROUP BY latch ORDER BY latch;

-- name: review_open
SELECT count(*) FROM trades WHERE closed_ns IS NULL;

-- name: check_intents
SELECT * FROM intents ORDER BY log_id;

-- name: check_equity
SELECT * FROM equity_snapshots ORDER BY log_id;

-- name: check_clock
-- A message that was recorded before the one before it.
SELECT * FROM (
    SELECT log_id, tbl, recorded_ns, lag(recorded_ns) OVER (ORDER BY log_id) AS before_ns FROM (
        SELECT log_id, recorded_ns, 'intents' AS tbl FROM intents
        UNION ALL SELECT log_id, recorded_ns, 'decisions' FROM decisions
        UNION ALL SELECT log_id, recorded_ns, 'orders' FROM orders
        UNION ALL SELECT log_id, recorded_ns, 'order_events' FROM order_events
        UNION ALL SELECT log_id, recorded_ns, 'fills' FROM fills
        UNION ALL SELECT log_id, recorded_ns, 'fees' FROM fees
        UNION ALL SELECT log_id, recorded_ns, 'foreign_executions' FROM foreign_executions
        UNION ALL SELECT log_id, recorded_ns, 'trades' FROM trades
        UNION ALL SELECT log_id, recorded_ns, 'exit_events' FROM exit_events
        UNION ALL SELECT log_id, recorded_ns, 'equity_snapshots' FROM equity_snapshots
        UNION ALL SELECT log_id, recorded_ns, 'latch_events' FROM latch_events
        UNION ALL SELECT log_id, recorded_ns, 'reconciliations' FROM reconciliations
        UNION ALL SELECT log_id, recorded_ns, 'strategy_failures' FROM strategy_failures
        UNION ALL SELECT log_id, recorded_ns, 'operator_answers' FROM operator_answers
        UNION ALL SELECT log_id, recorded_ns, 'cash_corrections' FROM cash_corrections
        UNION ALL SELECT log_id, recorded_ns, 'position_settlements' FROM position_settlements
        UNION ALL SELECT log_id, recorded_ns, 'cash_transfers' FROM cash_transfers
        UNION ALL SELECT log_id, recorded_ns, 'session_notes' FROM session_notes))
WHERE recorded_ns < before_ns ORDER BY log_id;

-- name: check_numbers
-- A number that two messages have; an adoption alone is several rows of one message.
SELECT log_id, min(tbl) AS tbl FROM (
    SELECT log_id, 'order_events' AS tbl FROM order_events
    UNION ALL SELECT log_id, 'fills' FROM fills
    UNION ALL SELECT log_id, 'fees' FROM fees
    UNION ALL SELECT log_id, 'foreign_executions' FROM foreign_executions
    UNION ALL SELECT log_id, 'trades' FROM trades
    UNION ALL SELECT closed_log_id, 'trades' FROM trades WHERE closed_log_id IS NOT NULL
    UNION ALL SELECT log_id, 'orders' FROM orders
    UNION ALL SELECT closed_log_id, 'orders' FROM orders WHERE closed_log_id IS NOT NULL
    UNION ALL SELECT log_id, 'equity_snapshots' FROM equity_snapshots
    UNION ALL SELECT log_id, 'position_settlements' FROM position_settlements)
GROUP BY log_id HAVING count(*) > 1 ORDER BY log_id;

-- name: check_trade_times
SELECT log_id, trade_id FROM trades WHERE closed_ns < opened_ns ORDER BY log_id;

-- name: check_sequence
-- Orders are numbered without gaps, from 1.
SELECT * FROM (SELECT log_id, order_id, sequence, lag(sequence, 1, 0) OVER (ORDER BY sequence, log_id) AS before FROM orders)
WHERE sequence <> before + 1 ORDER BY sequence;

-- name: check_sessions
SELECT e.date AS date, count(*) || ' equity marks, and the session is not on record' AS problem
FROM equity_snapshots e WHERE e.date <> '' AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.date = e.date) GROUP BY e.date
UNION ALL SELECT date, 'it closes before it opens' FROM sessions WHERE close_ns <= open_ns
UNION ALL SELECT date, 'it opens before the session before it closes' FROM (
    SELECT date, open_ns, lag(close_ns) OVER (ORDER BY date) AS before_ns FROM sessions) WHERE open_ns < before_ns
ORDER BY 1;

-- name: check_cash
SELECT log_id, 1, 'seed', at_ns, cash_micros FROM account_seed WHERE log_id > :after AND log_id <= :up_to
UNION ALL SELECT log_id, 1, 'money', recorded_ns, -amount_micros FROM fees
WHERE in_opening_cash = 0 AND log_id > :after AND log_id <= :up_to
UNION ALL SELECT log_id, 1, 'money', recorded_ns, amount_micros FROM cash_corrections
WHERE log_id > :after AND log_id <= :up_to
UNION ALL SELECT log_id, 1, 'money', recorded_ns, amount_micros FROM cash_transfers
WHERE log_id > :after AND log_id <= :up_to
UNION ALL SELECT log_id, 2, 'mark', recorded_ns, cash_micros FROM equity_snapshots
WHERE log_id > :after AND log_id <= :up_to;

-- name: check_cash_flows
-- As fold_flows, with the broker's fees; an execution without its order is here as well.
SELECT log_id, 0, 'fill', recorded_ns, trade_id, symbol, CASE side WHEN 'buy' THEN contracts ELSE -contracts END,
    price_micros, fees_broker_micros
FROM fills WHERE log_id > :after AND log_id <= :up_to
UNION ALL SELECT log_id, 0, 'settlement', recorded_ns, trade_id, symbol, contracts, price_micros, 0
FROM position_settlements WHERE log_id > :after AND log_id <= :up_to
UNION ALL SELECT log_id, 1, 'shares', recorded_ns, trade_id, shares_symbol, shares, share_price_micros, 0
FROM position_settlements WHERE shares <> 0 AND log_id > :after AND log_id <= :up_to;

-- name: derived_trade_extremes
SELECT * FROM trade_extremes ORDER BY log_id;

-- name: derived_strategy_days
SELECT * FROM strategy_days ORDER BY strategy, strategy_hash, date;

-- name: derived_performance_snapshots
SELECT * FROM performance_snapshots ORDER BY date, mode, account;

-- name: derived_trading_sessions
SELECT * FROM trading_sessions ORDER BY date, mode;

-- name: derived_strategy_performance
SELECT * FROM strategy_performance ORDER BY strategy, strategy_hash, month, mode;

-- name: derived_counts
SELECT * FROM performance_counts ORDER BY strategy, strategy_hash, month, mode;

-- name: drop_trade_extremes
DELETE FROM trade_extremes WHERE log_id = :log_id;

-- name: drop_strategy_days
DELETE FROM strategy_days WHERE strategy = :strategy AND strategy_hash = :strategy_hash AND date = :date;

-- name: drop_performance_snapshots
DELETE FROM performance_snapshots WHERE date = :date AND mode = :mode AND account = :account;

-- name: drop_trading_sessions
DELETE FROM trading_sessions WHERE date = :date AND mode = :mode;

-- name: drop_strategy_performance
DELETE FROM strategy_performance
WHERE strategy = :strategy AND strategy_hash = :strategy_hash AND month = :month AND mode = :mode;

-- name: restore_strategy_performance
-- A whole row, counts and statistics, in place of whatever is there.
INSERT OR REPLACE INTO strategy_performance (strategy, strategy_hash, month, mode, trades, wins, losses, scratches,
    gross_profit_micros, gross_loss_micros, net_pnl_micros, fees_modelled_micros, fees_broker_micros,
    largest_win_micros, largest_loss_micros, streak, win_streak, loss_streak, last_log_id, stats_log_id, stats_date,
    win_rate, expectancy_usd, expectancy_r, profit_factor, sharpe, sortino, max_drawdown, exposure, figures, score, ready,
    reason, assessment, inputs)
VALUES (:strategy, :strategy_hash, :month, :mode, :trades, :wins, :losses, :scratches, :gross_profit_micros,
    :gross_loss_micros, :net_pnl_micros, :fees_modelled_micros, :fees_broker_micros, :largest_win_micros,
    :largest_loss_micros, :streak, :win_streak, :loss_streak, :last_log_id, :stats_log_id, :stats_date, :win_rate,
    :expectancy_usd, :expectancy_r, :profit_factor, :sharpe, :sortino, :max_drawdown, :exposure, :figures, :score, :ready,
    :reason, :assessment, :inputs);
