"""What users call: arguments of many types in; results that print, save and explain themselves out.

These names are the public ones, and `onnxmi` has all of them.
"""

from onnxmi.api.comparing import bench as bench
from onnxmi.api.comparing import check as check
from onnxmi.api.comparing import diff as diff
from onnxmi.api.pruning import apply as apply
from onnxmi.api.pruning import collect as collect
from onnxmi.api.pruning import inspect as inspect
from onnxmi.api.pruning import merge as merge
from onnxmi.api.pruning import prune as prune
from onnxmi.api.pruning import sweep as sweep
from onnxmi.api.reporting import report as report
from onnxmi.api.results import Bench as Bench
from onnxmi.api.results import Difference as Difference
from onnxmi.api.results import Inspection as Inspection
from onnxmi.api.results import Report as Report
from onnxmi.api.results import Result as Result
from onnxmi.api.results import TradeOff as TradeOff
from onnxmi.api.samples import calib as calib
from onnxmi.benchmark.compare import BenchOptions as BenchOptions
from onnxmi.budget.goals import Budget as Budget
from onnxmi.budget.goals import Goal as Goal
from onnxmi.data.calibration import Calibration as Calibration
from onnxmi.data.calibration import check_calibration as check_calibration
from onnxmi.data.calibration import load_calibration as load_calibration
from onnxmi.data.sources import source as source
from onnxmi.errors import CalibrationError as CalibrationError
from onnxmi.errors import CheckError as CheckError
from onnxmi.errors import DataError as DataError
from onnxmi.errors import InvariantError as InvariantError
from onnxmi.errors import ModelError as ModelError
from onnxmi.errors import NothingToPruneError as NothingToPruneError
from onnxmi.errors import OnnxmiError as OnnxmiError
from onnxmi.errors import PlanError as PlanError
from onnxmi.errors import StatisticsError as StatisticsError
from onnxmi.errors import UsageError as UsageError
from onnxmi.evaluation.quality import Quality as Quality
from onnxmi.evaluation.yardstick import Damage as Damage
from onnxmi.gate.check import CheckOptions as CheckOptions
from onnxmi.gate.difference import DiffOptions as DiffOptions
from onnxmi.gate.limits import Verdict as Verdict
from onnxmi.graph.channel_graph import Layer as Layer
from onnxmi.graph.cost import Cost as Cost
from onnxmi.graph.plan import Plan as Plan
from onnxmi.graph.plan import load_plan as load_plan
from onnxmi.model import Model as Model
from onnxmi.model import load as load
from onnxmi.model import save as save
from onnxmi.pruning.options import PruneOptions as PruneOptions
from onnxmi.runtime.timing import Latency as Latency
from onnxmi.statistics.statistics_file import StatisticsFile as StatisticsFile
from onnxmi.statistics.statistics_file import load_statistics as load_statistics
from onnxmi.statistics.statistics_file import save_statistics as save_statistics
from onnxmi.transforms.analysis import Analysis as Analysis
from onnxmi.transforms.analysis import analyse as analyse
from onnxmi.transforms.analysis import analyze as analyze
from onnxmi.verification.checks import Check as Check

# Names of older versions.
Curve = TradeOff
Measurement = StatisticsFile
load_measurement = load_statistics
save_measurement = save_statistics
