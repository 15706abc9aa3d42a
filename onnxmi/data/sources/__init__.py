"""Samples as users have them: one module a format, one table of formats, one function that opens any of them."""

from onnxmi.data.sources.files import address_of as address_of
from onnxmi.data.sources.options import SourceFields as SourceFields
from onnxmi.data.sources.options import SourceOptions as SourceOptions
from onnxmi.data.sources.options import source_options as source_options
from onnxmi.data.sources.read import ReadSamples as ReadSamples
from onnxmi.data.sources.reader import CalibrationLike as CalibrationLike
from onnxmi.data.sources.reader import SampleSource as SampleSource
from onnxmi.data.sources.reader import as_calibration as as_calibration
from onnxmi.data.sources.reader import read_samples as read_samples
from onnxmi.data.sources.reader import source as source
