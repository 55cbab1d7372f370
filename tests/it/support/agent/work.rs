//! Tasks that outlive the request that began them.

use std::collections::HashMap;

use super::behaviour::{Behaviour, Request};
use crate::support::replies::task_id;

/// A task: what the agent answers to the message, and to each `tasks/get` after it. In its texts `$INPUT` stands for the
/// text of the message.
#[derive(Clone, Debug)]
pub(crate) struct LongWork {
    /// The state that answers the message; `None`: the end does.
    pub(crate) begins: Option<&'static str>,
    /// How many looks find it `working` before the end; `None`: all, until
    /// [`FakeAgent::finish_work`](super::FakeAgent::finish_work).
    pub(crate) looks: Option<usize>,
    pub(crate) end: WorkEnd,
}

#[derive(Clone, Debug)]
pub(crate) enum WorkEnd {
    /// In this final state (`completed`, `failed`, `rejected`, …), with this text.
    In(&'static str, String),
    /// With this question; a message that names the task goes on with this work.
    Asks(String, Box<LongWork>),
}

impl LongWork {
    /// Begins as `submitted`, and ends like this after so many looks.
    pub(crate) fn after(looks: usize, state: &'static str, text: &str) -> Self {
        Self {
            begins: Some("submitted"),
            looks: Some(looks),
            end: WorkEnd::In(state, text.to_owned()),
        }
    }

    /// Begins as `working`, and completes with this text once it is told to.
    pub(crate) fn until_finished(text: &str) -> Self {
        Self {
            begins: Some("working"),
            looks: None,
            end: WorkEnd::In("completed", text.to_owned()),
        }
    }

    /// Answers the message with this question, and what then follows.
    pub(crate) fn asking(question: &str, then: Self) -> Self {
        Self {
            begins: None,
            looks: Some(0),
            end: WorkEnd::Asks(question.to_owned(), Box::new(then)),
        }
    }

    /// Answers the message with this completed task.
    pub(crate) fn at_once(text: &str) -> Self {
        Self {
            begins: None,
            ..Self::after(0, "completed", text)
        }
    }
}

/// The tasks that an agent has.
#[derive(Default)]
pub(super) struct Ledger {
    tasks: HashMap<String, Task>,
    /// Whether there ever was one: if not, the agent is of the kind that knows no tasks.
    any: bool,
    finished: bool,
}

struct Task {
    work: LongWork,
    input: String,
}

impl Ledger {
    pub(super) fn begin(&mut self, request: &Request, work: LongWork) -> Behaviour {
        self.any = true;
        self.start(task_id(&request.message_id), request.text(), work)
    }

    /// What a message comes to that names a task; `None` if the agent knows no tasks.
    pub(super) fn go_on(&mut self, request: &Request) -> Option<Behaviour> {
        let id = request.task_id.clone();
        let (finished, Some(task)) = (self.finished, self.tasks.get(&id)) else {
            return self.any.then(|| self.no_task());
        };
        Some(match &task.work.end {
            WorkEnd::Asks(_, then) if task.is_over(finished) => {
                let then = (**then).clone();
                self.start(id, request.text(), then)
            }
            _ => Behaviour::Error(-32004, "The task takes no message".to_owned()),
        })
    }

    /// What a `tasks/get` comes to.
    pub(super) fn look(&mut self, id: &str) -> Behaviour {
        let finished = self.finished;
        let Some(task) = self.tasks.get_mut(id) else {
            return self.no_task();
        };
        if task.is_over(finished) {
            return task.end(id);
        }
        task.work.looks = task.work.looks.map(|left| left - 1);
        says(id, "working", "Working on it")
    }

    /// What a `tasks/cancel` comes to.
    pub(super) fn cancel(&mut self, id: &str) -> Behaviour {
        let finished = self.finished;
        let Some(task) = self.tasks.get_mut(id) else {
            return self.no_task();
        };
        if task.is_over(finished) && matches!(task.work.end, WorkEnd::In(..)) {
            return Behaviour::Error(-32002, "Task cannot be canceled".to_owned());
        }
        task.work = LongWork::after(0, "canceled", "Canceled");
        task.end(id)
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    pub(super) fn forget(&mut self) {
        self.tasks.clear();
    }

    fn start(&mut self, id: String, input: String, work: LongWork) -> Behaviour {
        let task = Task { work, input };
        let answer = match task.work.begins {
            Some(state) => says(&id, state, "Taken"),
            None => task.end(&id),
        };
        self.tasks.insert(id, task);
        answer
    }

    fn no_task(&self) -> Behaviour {
        if self.any {
            Behaviour::Error(-32001, "Task not found".to_owned())
        } else {
            unknown_method()
        }
    }
}

impl Task {
    fn is_over(&self, finished: bool) -> bool {
        match self.work.looks {
            Some(left) => left == 0,
            None => finished,
        }
    }

    fn end(&self, id: &str) -> Behaviour {
        let (state, text) = match &self.work.end {
            WorkEnd::In(state, text) => (*state, text),
            WorkEnd::Asks(question, _) => ("input-required", question),
        };
        says(id, state, &text.replace("$INPUT", &self.input))
    }
}

pub(super) fn unknown_method() -> Behaviour {
    Behaviour::Error(-32601, "Method not found".to_owned())
}

fn says(id: &str, state: &str, text: &str) -> Behaviour {
    Behaviour::Task {
        id: id.to_owned(),
        state: state.to_owned(),
        text: text.to_owned(),
    }
}
