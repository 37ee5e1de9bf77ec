"""What stands in for workers and the terminal."""


class FakeRunner:
    """Answers tasks with a function of the task, and keeps the tasks."""

    def __init__(self, answer):
        self.answer = answer
        self.tasks = []

    def run(self, task, *, timeout_s, on_result=None):
        self.tasks.append(task)
        result = self.answer(task)
        if isinstance(result, Exception):
            raise result
        return (result,)


class Notes:
    """Progress that keeps what it is told."""

    def __init__(self):
        self.notes = []

    def stage(self, name, *, left_s):
        pass

    def note(self, text):
        self.notes.append(text)
