"""Sound: speech of espeak-ng's voices, noise of several colors, and tunes; float32 from -1 to 1."""

from __future__ import annotations

import shutil
import subprocess
import wave
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from shipped.family import Request
from shipped.lettering import MissingSourceError, latin

Wave = NDArray[np.float64]

VOICES = ("en-us", "en-gb", "en-gb-scotland", "de", "fr", "es", "it", "pl", "pt-br", "nl")
VARIANTS = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f4", "+f5")
# Timbres: the strength of each partial, and how fast a note dies away (1/s).
TIMBRES = (
    ((1.0, 0.5, 0.35, 0.2, 0.12, 0.08), 2.5),  # struck string
    ((1.0, 0.8, 0.6, 0.5, 0.3, 0.25, 0.2), 0.1),  # organ
    ((1.0, 0.7, 0.8, 0.4, 0.3, 0.3, 0.1, 0.1), 5.0),  # plucked string
    ((1.0, 0.05, 0.35, 0.03, 0.15), 0.4),  # clarinet
)
LOWEST, HIGHEST = 36, 88  # notes, as MIDI counts them
CHORDS = ((0,), (0,), (0, 7), (0, 4, 7), (0, 3, 7), (0, 4, 7, 10), (0, 12))


def speech(rng: np.random.Generator, words: list[str], rate: int) -> Wave:
    """Some words by a random voice, at `rate` samples a second."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise MissingSourceError("no espeak-ng; install the package of that name")
    voice = f"{VOICES[rng.integers(len(VOICES))]}{VARIANTS[rng.integers(len(VARIANTS))]}"
    settings = ["-v", voice, "-s", str(rng.integers(120, 210)), "-p", str(rng.integers(25, 75))]
    text = " ".join(words)
    made = subprocess.run([program, *settings, "--stdout", "--", text], capture_output=True, check=True).stdout
    with wave.open(BytesIO(made)) as file:
        own, frames = file.getframerate(), np.frombuffer(made[44:], dtype="<i2")
    return resampled(frames / 32768, own, rate)


def resampled(sound: Wave, own: int, rate: int) -> Wave:
    """The same sound at another rate, without what is above half of either."""
    count = round(len(sound) * rate / own)
    spectrum = np.zeros(count // 2 + 1, dtype=np.complex128)
    given = np.fft.rfft(sound)[: len(spectrum)]
    spectrum[: len(given)] = given
    return np.asarray(np.fft.irfft(spectrum, count) * rate / own, dtype=np.float64)


def noise(rng: np.random.Generator, count: int) -> Wave:
    """Noise whose power falls with some power of the frequency, from white to brown; its root mean square is 1."""
    spectrum = rng.normal(size=count // 2 + 1) + 1j * rng.normal(size=count // 2 + 1)
    spectrum /= np.maximum(np.arange(count // 2 + 1), 1.0) ** (rng.uniform(0.0, 2.0) / 2)
    spectrum[0] = 0
    wavy = np.fft.irfft(spectrum, count)
    return np.asarray(wavy / np.sqrt(np.mean(wavy**2)), dtype=np.float64)


def talk(request: Request, seconds: float, rate: int) -> NDArray[np.float32]:
    """Phrases and pauses over noise that changes from phrase to phrase."""
    rng, words = request.rng(), request.deal([latin()[start : start + 12] for start in range(0, 12_000, 12)])
    pieces: list[Wave] = []
    while sum(map(len, pieces)) < seconds * rate:
        said = speech(rng, words[rng.integers(len(words))][: rng.integers(3, 12)], rate)
        pause = np.zeros(int(rng.uniform(0.2, 1.6) * rate))
        piece = np.concatenate([said / max(np.abs(said).max(), 1e-9) * rng.uniform(0.15, 0.7), pause])
        pieces.append(piece + noise(rng, len(piece)) * 10 ** rng.uniform(-4.0, -1.3))
    return np.clip(np.concatenate(pieces)[: int(seconds * rate)], -1, 1).astype(np.float32)


def tune(rng: np.random.Generator, count: int, rate: int) -> Wave:
    """Notes and chords of one timbre."""
    partials, decay = TIMBRES[rng.integers(len(TIMBRES))]
    out, start = np.zeros(count), int(rng.uniform(0.0, 0.3) * rate)
    while start < count:
        length = int(rng.uniform(0.12, 0.9) * rate)
        root = int(rng.integers(LOWEST, HIGHEST))
        for step in CHORDS[rng.integers(len(CHORDS))]:
            own = note(440 * 2 ** ((root + step - 69) / 12), length, rate, partials, decay)[: count - start]
            out[start : start + len(own)] += own * rng.uniform(0.5, 1.0)
        start += int(length * rng.uniform(0.5, 1.2))
    return out / max(np.abs(out).max(), 1e-9) * rng.uniform(0.2, 0.9)


def note(frequency: float, length: int, rate: int, partials: tuple[float, ...], decay: float) -> Wave:
    """One note with an attack of 8 ms and a release of 30 ms; partials above half the rate are left out."""
    time = np.arange(length) / rate
    heard = [(k, strength) for k, strength in enumerate(partials, 1) if k * frequency < rate / 2]
    tone = sum((strength * np.sin(2 * np.pi * k * frequency * time) for k, strength in heard), np.zeros(length))
    edge = np.minimum(np.minimum(time / 0.008, (time[-1] - time) / 0.03), 1.0)
    return np.asarray(tone * np.exp(-decay * time) * edge, dtype=np.float64)
