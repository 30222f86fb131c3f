"""The situations that oodbench was attacked with, as real processes."""
