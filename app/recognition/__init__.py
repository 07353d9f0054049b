"""What a model file is, told from its header alone: no torch, no database, no web.

`recognise_file` answers for safetensors files and zipped diffusers folders: `read_header` checks the first
bytes with caps, `recognise` judges them. No weights are read for it, and a pickle is never opened.
"""

from app.recognition.folders import recognise_file
from app.recognition.foreign import HeaderRefused
from app.recognition.header import Header, TensorInfo, read_header
from app.recognition.recognise import prediction_of, recognise
from app.recognition.result import MODEL_TYPES, Recognised

__all__ = [
    "MODEL_TYPES",
    "Header",
    "HeaderRefused",
    "Recognised",
    "TensorInfo",
    "prediction_of",
    "read_header",
    "recognise",
    "recognise_file",
]
