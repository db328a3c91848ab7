//! The agent's side of a zygote and its workers, blocking.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use clutch_worker_link::{
    BatchReport, DriverCode, FailureReport, Frame, FromWorker, FromZygote, MAX_DESCRIPTORS,
    PREFIX_BYTES, PROGRESS_BYTES, RunBatch, SavedReport, ToWorker, ToZygote, ZygoteHello,
    read_frame_blocking, receive_with_descriptors, send_with_descriptors, write_frame_blocking,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, Signal};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_PAYLOAD_BYTES: u64 = 1 << 30;

/// A running zygote; killed when dropped.
pub(crate) struct Zygote {
    pub(crate) process: Child,
    pub(crate) control: UnixStream,
    pub(crate) hello: ZygoteHello,
}

/// Where a worker prints.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A forked worker; killed when dropped.
pub(crate) struct Worker {
    pub(crate) pid: Pid,
    pub(crate) line: UnixStream,
    /// What came with the last answer.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// What was saved ahead of the last answer: the report, and the pickle.
    pub(crate) saved: Vec<(SavedReport, Vec<u8>)>,
    /// Where it says what it runs.
    pub(crate) page: OwnedFd,
    stdout: std::io::PipeReader,
    stderr: std::io::PipeReader,
}

/// An answer to a batch.
pub(crate) type Answer = Result<(BatchReport, Vec<u8>), Box<(BatchReport, FailureReport, Vec<u8>)>>;

impl Zygote {
    pub(crate) fn start(warm: &str) -> Self {
        // Workers are handed to the nearest subreaper when they are forked.
        let this = Some(rustix::process::getpid());
        rustix::process::set_child_subreaper(this).unwrap();
        let python = python();
        let (control, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_clutch"));
        command.arg("zygote").arg("--libpython").arg(libpython(&python));
        command.arg("--interpreter-library").arg(interpreter_library());
        command.arg("--python").arg(&python).arg("--warm").arg(warm);
        command.args(["--max-payload-bytes", &MAX_PAYLOAD_BYTES.to_string()]);
        command.args(["--agent-pid", &std::process::id().to_string()]);
        for library in ["OMP", "OPENBLAS", "MKL"] {
            command.env(format!("{library}_NUM_THREADS"), "1");
        }
        let process = command.stdin(OwnedFd::from(theirs)).spawn().unwrap();
        // The command keeps its copy of the zygote's end.
        drop(command);
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        let FromZygote::Hello(hello) = receive_with_descriptors(&control).unwrap().0 else {
            panic!("no hello");
        };
        Self { process, control, hello }
    }

    /// Asks for a worker; the answer is still to come.
    pub(crate) fn order(&self, worker: u64) -> (UnixStream, [std::io::PipeReader; 2], OwnedFd) {
        let (line, theirs) = UnixStream::pair().unwrap();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        let (stdout, their_stdout) = std::io::pipe().unwrap();
        let (stderr, their_stderr) = std::io::pipe().unwrap();
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let page: OwnedFd = rustix::fs::memfd_create("progress", flags).unwrap();
        rustix::fs::ftruncate(&page, PROGRESS_BYTES as u64).unwrap();
        let descriptors =
            [theirs.as_fd(), their_stdout.as_fd(), their_stderr.as_fd(), page.as_fd()];
        send_with_descriptors(&self.control, &ToZygote::Spawn { worker }, &descriptors).unwrap();
        (line, [stdout, stderr], page)
    }

    pub(crate) fn answer(&self) -> FromZygote {
        receive_with_descriptors(&self.control).unwrap().0
    }

    /// Forks a worker and sets it up.
    pub(crate) fn worker(&self) -> Worker {
        let mut worker = self.bare_worker();
        worker.set_up(Vec::new(), 1, b"");
        worker
    }

    pub(crate) fn bare_worker(&self) -> Worker {
        let (line, [stdout, stderr], page) = self.order(7);
        let FromZygote::Spawned { worker: 7, pid } = self.answer() else { panic!("no worker") };
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        Worker { pid, line, descriptors: Vec::new(), saved: Vec::new(), page, stdout, stderr }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Worker {
    pub(crate) fn send(&mut self, message: &ToWorker, payload: &[u8]) {
        write_frame_blocking(&mut self.line, message, payload).unwrap();
    }

    /// Receives an answer, and what is saved ahead of it.
    pub(crate) fn receive(&mut self) -> Frame<FromWorker> {
        self.try_receive().unwrap()
    }

    /// As [`Worker::receive`]; `None` when the worker has ended instead.
    pub(crate) fn try_receive(&mut self) -> Option<Frame<FromWorker>> {
        loop {
            let (first, descriptors) = receive_first_bytes(&self.line);
            if first.is_empty() {
                return None;
            }
            self.descriptors = descriptors;
            let mut frame = first.as_slice().chain(&self.line);
            let frame = read_frame_blocking(&mut frame, MAX_PAYLOAD_BYTES).unwrap();
            let Frame { message: FromWorker::Saved(report), payload } = frame else {
                return Some(frame);
            };
            self.saved.push((report, payload));
        }
    }

    pub(crate) fn set_up(
        &mut self,
        variables: Vec<(String, String)>,
        threads: u32,
        profile: &[u8],
    ) {
        self.send(&ToWorker::Setup { variables, threads, code: DriverCode::default() }, profile);
        let answer = self.receive();
        assert_eq!(answer.message, FromWorker::Ready);
    }

    pub(crate) fn start(&mut self, tasks: &[&str]) {
        self.start_from(0, tasks);
    }

    fn start_from(&mut self, first_task: u32, tasks: &[&str]) {
        let run = ToWorker::Run(RunBatch {
            batch: 1,
            tasks: tasks.len().try_into().unwrap(),
            nesting_level: 1,
            first_task,
            ..Default::default()
        });
        self.send(&run, &batch(tasks));
    }

    /// Runs a batch of Python expressions.
    pub(crate) fn run(&mut self, tasks: &[&str]) -> Answer {
        self.run_from(0, tasks)
    }

    /// Runs the rest of a batch.
    pub(crate) fn run_from(&mut self, first_task: u32, tasks: &[&str]) -> Answer {
        self.start_from(first_task, tasks);
        let Frame { message, payload } = self.receive();
        match message {
            FromWorker::Done(report, _) => Ok((report, payload)),
            FromWorker::Failed(report, failure) => Err(Box::new((report, failure, payload))),
            other @ (FromWorker::Ready | FromWorker::SetupFailed(_) | FromWorker::Saved(_)) => {
                panic!("unexpected {other:?}")
            }
        }
    }

    /// Runs one expression; its value must be a text.
    pub(crate) fn text(&mut self, task: &str) -> String {
        let (_, pickle) = self.run(&[task]).unwrap();
        // Protocol 5: [ "text" ] is SHORT_BINUNICODE, length, text.
        let start = pickle.iter().position(|byte| *byte == 0x8c).unwrap() + 2;
        let length = usize::from(pickle[start - 1]);
        String::from_utf8(pickle[start..start + length].to_vec()).unwrap()
    }

    /// Runs one expression that must fail.
    pub(crate) fn failure(&mut self, task: &str) -> FailureReport {
        self.run(&[task]).unwrap_err().1
    }

    /// Waits for the end: exit code or signal, and what was printed.
    pub(crate) fn end(mut self) -> (Option<i32>, Option<i32>, String, String) {
        let mut printed = [String::new(), String::new()];
        self.stdout.read_to_string(&mut printed[0]).unwrap();
        self.stderr.read_to_string(&mut printed[1]).unwrap();
        let (_, status) =
            rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty())
                .unwrap()
                .unwrap();
        let [stdout, stderr] = printed;
        (status.exit_status(), status.terminating_signal(), stdout, stderr)
    }

    /// Waits until the worker has printed a line, on standard output or error,
    /// that contains a text; returns everything read up to there.
    pub(crate) fn read_until(&self, stream: Stream, text: &str) -> String {
        let pipe: &mut dyn Read = match stream {
            Stream::Stdout => &mut &self.stdout,
            Stream::Stderr => &mut &self.stderr,
        };
        let mut read = String::new();
        let mut byte = [0];
        while !(read.contains(text) && read.ends_with('\n')) {
            assert_eq!(pipe.read(&mut byte).unwrap(), 1, "it ended after {read:?}");
            read.push(char::from(byte[0]));
        }
        read
    }

    pub(crate) fn kill(&self, signal: Signal) {
        rustix::process::kill_process(self.pid, signal).unwrap();
    }
}

/// Descriptors come with a frame's first bytes.
fn receive_first_bytes(line: &UnixStream) -> (Vec<u8>, Vec<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; PREFIX_BYTES];
    let target = &mut [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(line, target, &mut ancillary, flags).unwrap();
    bytes.truncate(received.bytes);
    let descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    (bytes, descriptors.flatten().collect())
}

/// A pickled batch (protocol 0) that evaluates expressions, each in its own
/// namespace.
pub(crate) fn batch(expressions: &[&str]) -> Vec<u8> {
    let mut pickle = String::from("(");
    for expression in expressions {
        let text = expression.replace('\\', "\\u005c").replace('\n', "\\u000a");
        pickle.extend(["(cbuiltins\neval\n(V", &text, "\n(dt(dt"]);
    }
    pickle.push_str("l.");
    pickle.into_bytes()
}

pub(crate) fn python() -> PathBuf {
    let python = std::env::var_os("CLUTCH_TEST_PYTHON");
    python.expect("set CLUTCH_TEST_PYTHON to a python with numpy, joblib and cloudpickle").into()
}

fn libpython(python: &PathBuf) -> String {
    let program = "import sysconfig as s; v = s.get_config_var; \
                   print(v('LIBDIR') + '/' + v('INSTSONAME'))";
    let output = Command::new(python).args(["-c", program]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn interpreter_library() -> PathBuf {
    if let Some(path) = std::env::var_os("CLUTCH_TEST_INTERPRETER_LIBRARY") {
        return path.into();
    }
    let path =
        PathBuf::from(env!("CARGO_BIN_EXE_clutch")).with_file_name("libclutch_interpreter.so");
    assert!(path.exists(), "build it first: cargo build -p clutch-interpreter");
    path
}
