"""The way back from a loss that is not finite, to the state from before it.

The updater finds it at once, and changes nothing from there on. The loop hears of it
some updates later: to ask after each would make every update wait for the device.
"""

from collections import deque

from pocketseq.pipeline.training.state import TrainingState


class Rewind:
    """Remembers the last few states, to go back to one of them.

    Args:
        reach: Updates between two questions whether the loss is still finite.
    """

    def __init__(self, reach: int) -> None:
        self._states: deque[TrainingState] = deque(maxlen=reach)

    def note(self, state: TrainingState) -> None:
        """Remembers a state from which an update is about to be made."""
        self._states.append(state)

    def before(self, update_number: int) -> TrainingState:
        """Returns the state from which an update was made.

        Args:
            update_number: The updates that had been done then.

        Raises:
            ValueError: That is too long ago, or was never noted.
        """
        for state in self._states:
            if state.update_number == update_number:
                return state
        raise ValueError(
            f"update {update_number}: expected one of the last "
            f"{self._states.maxlen} noted"
        )
