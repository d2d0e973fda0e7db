"""Which of a journal's inputs say what the market did, and which what the broker, the clock or a person did.

A divergence run tells the market's and the operators' inputs again as recorded; the exchange in process answers in the
broker's place, and the played core fires its own timers. Invariant: every kind of input is in exactly one group.
"""

from oracle.core.marketdata import (
    Bar,
    ChainListed,
    ChainQuotes,
    ChainReadFailed,
    DailyIvObserved,
    FeedChanged,
    OptionTrades,
    Quote,
    TradingStatus,
    UpdatedBar,
)
from oracle.core.messages import CashTransferred, DrainRequested, ForeignExecution, OperatorRequested, TimerFired
from oracle.core.reports import (
    AccountReported,
    CancelReturned,
    ExecutionReported,
    LookUpReturned,
    OrderReported,
    StructureExecuted,
    SubmitReturned,
)

# Told again at their recorded times. States of feeds belong here: what the core did without then, it does without now.
MARKET = (
    Bar, UpdatedBar, Quote, TradingStatus, ChainListed, ChainQuotes, OptionTrades, ChainReadFailed, DailyIvObserved,
    FeedChanged,
)  # fmt: skip
# Asked again at their recorded times: a halt kept entries away.
OPERATOR = (OperatorRequested,)
# Left out: the exchange in process says its own.
ACCOUNT = (
    OrderReported, ExecutionReported, StructureExecuted, SubmitReturned, CancelReturned, LookUpReturned,
    AccountReported,
)  # fmt: skip
# Left out: timers are fired anew, and the end of the record ends the play, not a drain.
TIME = (TimerFired, DrainRequested)
# What others did at the recorded broker; the exchange in process has only our orders.
NOT_OURS = (ForeignExecution, CashTransferred)
