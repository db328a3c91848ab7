//! Bytes that released versions wrote stay readable, with the same meaning.
//!
//! One file per message and contract version in `tests/golden`. A released file
//! is never rewritten: `UPDATE=1` writes those that are missing.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Debug;
use std::path::Path;

use bytes::Bytes;
use clutch_protocol::v1::{
    self, agent_frame, batch_ended, blob_state, client_frame, data_request, data_response,
    open_session_response,
};
use prost::Message;

type Outcome = Result<(), Box<dyn Error>>;

/// Checks that the golden bytes and the message mean each other.
fn check<M: Message + Default + PartialEq + Debug>(name: &str, message: &M) -> Outcome {
    check_of("1.0", name, message)
}

/// The same for a later version, which has samples of what it added.
fn check_of<M: Message + Default + PartialEq + Debug>(
    version: &str,
    name: &str,
    message: &M,
) -> Outcome {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version);
    let path = directory.join(format!("{name}.bin"));
    if std::env::var_os("UPDATE").is_some() && !path.exists() {
        std::fs::create_dir_all(directory)?;
        std::fs::write(&path, message.encode_to_vec())?;
    }
    let golden = std::fs::read(&path)?;
    assert_eq!(&M::decode(golden.as_slice())?, message, "{name} reads differently");
    assert_eq!(message.encode_to_vec(), golden, "{name} is written differently");
    Ok(())
}

fn environment() -> v1::Environment {
    v1::Environment {
        python_version: "3.11.7".to_owned(),
        implementation: "cpython".to_owned(),
        executable: "/opt/env/bin/python".to_owned(),
        cloudpickle_version: "3.1.2".to_owned(),
        joblib_version: "1.5.0".to_owned(),
        // Of a later version than these messages.
        packages: HashMap::new(),
    }
}

fn protocol() -> v1::ProtocolVersion {
    v1::ProtocolVersion { major: 1, minor: 0 }
}

fn failure() -> v1::Failure {
    v1::Failure {
        kind: v1::FailureKind::TaskRaised.into(),
        fault: v1::Fault::Task.into(),
        message: "task 2 raised ValueError".to_owned(),
        advice: "read the traceback".to_owned(),
        task_index: Some(2),
        signal: Some(11),
        exit_code: Some(-3),
        stderr_tail: "Segmentation fault".to_owned(),
        exception: Some(v1::ExceptionInfo {
            pickle: Bytes::from_static(b"\x80\x05."),
            type_name: "ValueError".to_owned(),
            text: "no".to_owned(),
            traceback: "Traceback (most recent call last):".to_owned(),
        }),
        attempt: 3,
        breach: Some(v1::Breach { limit: 1 << 29, peak: 1 << 30 }),
        wall_nanoseconds: 1_500_000_000,
        cpu_nanoseconds: 700_000_000,
    }
}

fn part() -> v1::PayloadPart {
    v1::PayloadPart { batch_id: 1 << 40, data: Bytes::from_static(b"rest") }
}

fn blob_use(blob_id: u64, access: v1::BlobAccess) -> v1::BlobUse {
    v1::BlobUse { blob_id, access: access.into() }
}

#[test]
fn open_session_request() -> Outcome {
    check(
        "open_session_request",
        &v1::OpenSessionRequest {
            protocol: Some(protocol()),
            client_version: "0.1.0".to_owned(),
            environment: Some(environment()),
            python: "/opt/env/bin/python".to_owned(),
            name: "host:123".to_owned(),
            ..Default::default()
        },
    )
}

#[test]
fn open_session_response() -> Outcome {
    let opened = v1::SessionOpened {
        max_session_bytes: 7,
        session_id: "5f0c".to_owned(),
        slots: 8,
        environment: Some(environment()),
        protocol: Some(protocol()),
        agent_version: "0.1.0".to_owned(),
        host: "node1".to_owned(),
        max_batch_bytes: 1 << 33,
        max_open_batches: 10_000,
        ..Default::default()
    };
    check(
        "open_session_response_opened",
        &v1::OpenSessionResponse { result: Some(open_session_response::Result::Opened(opened)) },
    )?;
    let refusal = v1::Refusal {
        fault: v1::Fault::Driver.into(),
        kind: v1::FailureKind::EnvironmentMismatch.into(),
        message: "driver has 3.12, agent has 3.11".to_owned(),
        advice: "add a 3.12 environment".to_owned(),
        available: vec![environment()],
    };
    check(
        "open_session_response_refusal",
        &v1::OpenSessionResponse { result: Some(open_session_response::Result::Refusal(refusal)) },
    )
}

#[test]
fn client_envelope() -> Outcome {
    let bodies = [
        client_frame::Body::DefineProfile(v1::DefineProfile {
            profile_id: 1,
            variables: [("OMP_NUM_THREADS".to_owned(), "2".to_owned())].into(),
            workers: 4,
            setup: Bytes::from_static(b"\x80\x05}."),
            limits: Some(v1::Limits {
                memory_bytes: 1 << 29,
                cpus: 0.5,
                processes: 64,
                open_files: 256,
                scratch_bytes: 1 << 20,
                soft_memory: true,
            }),
            ..Default::default()
        }),
        client_frame::Body::OpenCall(v1::OpenCall {
            call_id: 2,
            profile_id: 1,
            max_running: 3,
            nesting_level: 1,
            task_timeout_seconds: 1.5,
            task_cpu_seconds: 2.5,
            retries: Some(0),
        }),
        client_frame::Body::SubmitBatch(v1::SubmitBatch {
            batch_id: 1 << 40,
            call_id: 2,
            tasks: 5,
            payload: Bytes::from_static(b"begin"),
            payload_bytes: 9,
            buffers: vec![blob_use(3, v1::BlobAccess::Copy)],
            shared: vec![v1::SharedObject {
                pickle_blob_id: 4,
                buffers: vec![blob_use(5, v1::BlobAccess::Read)],
            }],
        }),
        client_frame::Body::PayloadPart(part()),
        client_frame::Body::CloseCall(v1::CloseCall { call_id: 2 }),
        client_frame::Body::OfferBlob(v1::OfferBlob {
            blob_id: 3,
            bytes: 1 << 33,
            digest: Bytes::from_static(&[0xab; 32]),
            writable: true,
            ..Default::default()
        }),
        client_frame::Body::BlobPart(v1::BlobPart {
            blob_id: 3,
            data: Bytes::from_static(b"some"),
        }),
        client_frame::Body::ReleaseBlobs(v1::ReleaseBlobs { blob_ids: vec![3, 1 << 63] }),
    ];
    let frames = bodies.map(|body| v1::ClientFrame { body: Some(body) }).into();
    let envelope =
        v1::ClientEnvelope { session_id: "5f0c".to_owned(), frames, ..Default::default() };
    check("client_envelope", &envelope)
}

#[test]
fn agent_envelope() -> Outcome {
    let ended = |outcome| v1::BatchEnded {
        batch_id: 1 << 40,
        outcome: Some(outcome),
        timings: Some(v1::Timings {
            queued_at: 1,
            assigned_at: 2,
            received_at: 3,
            unpickled_at: 4,
            ran_at: 5,
            pickled_at: 6,
            ended_at: u64::MAX,
            task_nanoseconds: vec![1, 300, 70_000],
        }),
        usage: Some(v1::Usage { user_nanoseconds: 7, system_nanoseconds: 8, peak_memory_bytes: 9 }),
        worker_pid: 4242,
        earlier_attempts: vec![v1::Attempt {
            kind: v1::FailureKind::WorkerKilled.into(),
            message: "worker 4241 was killed".to_owned(),
            worker_pid: 4241,
            ended_at: 2,
        }],
        notes: vec![v1::Note { kind: v1::NoteKind::ChildrenKilled.into(), count: 2 }],
    };
    let value = v1::Value {
        payload: Bytes::from_static(b"begin"),
        payload_bytes: 9,
        buffer_bytes: vec![100, 1 << 33],
        blob_id: 1 << 63,
        saved_bytes: vec![3, 4],
    };
    let bodies = [
        agent_frame::Body::BatchEnded(ended(batch_ended::Outcome::Value(value))),
        agent_frame::Body::PayloadPart(part()),
        agent_frame::Body::BatchEnded(ended(batch_ended::Outcome::Failure(failure()))),
        agent_frame::Body::Output(v1::Output {
            pid: 4242,
            stream: v1::OutputStream::Stderr.into(),
            data: Bytes::from_static(b"\xffnot text"),
        }),
        agent_frame::Body::Capacity(v1::Capacity { slots: 6 }),
        agent_frame::Body::BlobState(v1::BlobState {
            blob_id: 3,
            state: Some(blob_state::State::Missing(v1::BlobMissing {})),
        }),
    ];
    let frames = bodies.map(|body| v1::AgentFrame { body: Some(body) }).into();
    check("agent_envelope", &v1::AgentEnvelope { frames, ..Default::default() })
}

#[test]
fn data_request() -> Outcome {
    let requests = [
        ("join", data_request::Body::Join(v1::JoinSession { session_id: "5f0c".to_owned() })),
        (
            "allocate",
            data_request::Body::Allocate(v1::AllocateBlob {
                blob_id: 3,
                bytes: 1 << 33,
                writable: true,
            }),
        ),
        ("commit", data_request::Body::Commit(v1::CommitBlob { blob_id: 3 })),
        ("fetch", data_request::Body::Fetch(v1::FetchBlob { blob_id: 1 << 63 })),
        (
            "same_file",
            data_request::Body::SameFile(v1::SameFile {
                path: "/data/x.npy".to_owned(),
                device: 66,
                inode: 1 << 40,
                bytes: 1 << 33,
            }),
        ),
    ];
    for (name, body) in requests {
        let name = format!("data_request_{name}");
        check(&name, &v1::DataRequest { body: Some(body) })?;
    }
    Ok(())
}

#[test]
fn data_response() -> Outcome {
    let responses = [
        ("done", data_response::Body::Done(v1::Done {})),
        ("descriptor", data_response::Body::Descriptor(v1::DescriptorSent {})),
        ("file_is_same", data_response::Body::FileIsSame(v1::FileIsSame { same: true })),
        ("refused", data_response::Body::Refused(failure())),
    ];
    for (name, body) in responses {
        let name = format!("data_response_{name}");
        check(&name, &v1::DataResponse { body: Some(body) })?;
    }
    Ok(())
}

#[test]
fn get_status() -> Outcome {
    check("get_status_request", &v1::GetStatusRequest {})?;
    check(
        "get_status_response",
        &v1::GetStatusResponse {
            protocol: Some(protocol()),
            agent_version: "0.1.0".to_owned(),
            pid: 77,
            host: "node1".to_owned(),
            slots: 8,
            environments: vec![v1::EnvironmentStatus {
                environment: Some(environment()),
                zygote_pid: 78,
                warm_modules: vec!["numpy".to_owned(), "joblib".to_owned()],
                problem: "slow".to_owned(),
            }],
            sessions: vec![v1::SessionStatus {
                name: "host:123".to_owned(),
                waiting: 2,
                running: 1,
                ..Default::default()
            }],
            workers: vec![v1::WorkerStatus {
                pid: 79,
                executable: "/opt/env/bin/python".to_owned(),
                busy: true,
                batches: 12,
            }],
            draining: true,
            enforcement: Some(v1::Enforcement {
                memory: v1::Mechanism::CgroupV1.into(),
                cpus: v1::Mechanism::Affinity.into(),
                processes: v1::Mechanism::CgroupV1.into(),
                kill: v1::Mechanism::CgroupV2.into(),
                cannot: vec!["a promise".to_owned()],
                memory_ceiling_bytes: 1 << 34,
            }),
            blobs: Some(v1::BlobStatus {
                count: 5,
                cached: 2,
                memory_bytes: 1 << 33,
                memory_limit_bytes: 1 << 34,
                spilled_bytes: 4096,
                spill_limit_bytes: 1 << 36,
            }),
        },
    )
}

#[test]
fn sessions_that_outlive_their_connection() -> Outcome {
    let request = v1::OpenSessionRequest {
        name: "host:123".to_owned(),
        silence_seconds: 60.0,
        weight: 2.5,
        max_running: 3,
        ..Default::default()
    };
    check_of("1.1", "open_session_request", &request)?;
    let opened = v1::SessionOpened { silence_seconds: 30.0, ..Default::default() };
    let result = Some(open_session_response::Result::Opened(opened));
    check_of("1.1", "open_session_response", &v1::OpenSessionResponse { result })?;
    let resume = v1::ClientEnvelope {
        session_id: "5f0c".to_owned(),
        resume: Some(v1::Resume { received: 1 << 40 }),
        acknowledged: 1 << 40,
        ..Default::default()
    };
    check_of("1.1", "resume", &resume)?;
    let resumed = v1::AgentEnvelope {
        resumed: Some(v1::Resumed { received: 1 << 41 }),
        acknowledged: 1 << 41,
        ..Default::default()
    };
    check_of("1.1", "resumed", &resumed)
}

#[test]
fn content_that_agents_give_each_other() -> Outcome {
    let offer = v1::OfferBlob {
        blob_id: 3,
        bytes: 1 << 33,
        digest: Bytes::from_static(&[0xab; 32]),
        writable: false,
        sources: vec!["node1:7077".to_owned(), "node2:7077".to_owned()],
    };
    check_of("1.1", "offer_blob", &offer)?;
    let request = v1::FetchContentRequest {
        digest: Bytes::from_static(&[0xab; 32]),
        bytes: 1 << 33,
        offset: 1 << 20,
    };
    check_of("1.1", "fetch_content_request", &request)?;
    check_of("1.1", "content_part", &v1::ContentPart { data: Bytes::from_static(b"some") })
}

#[test]
fn code_of_the_driver() -> Outcome {
    let archive = v1::CodeArchive {
        blob_id: 3,
        digest: Bytes::from_static(&[0xab; 32]),
        working_directory: true,
    };
    let profile = v1::DefineProfile { profile_id: 1, code: vec![archive], ..Default::default() };
    check_of("1.1", "define_profile", &profile)
}

#[test]
fn what_operators_ask() -> Outcome {
    let packages = HashMap::from([("numpy".to_owned(), "2.4.6".to_owned())]);
    check_of("1.1", "environment", &v1::Environment { packages, ..environment() })?;
    check_of("1.1", "drain_request", &v1::DrainRequest {})?;
    check_of("1.1", "drain_response", &v1::DrainResponse { open_batches: 7 })?;
    let session = v1::SessionStatus {
        name: "host:123".to_owned(),
        waiting: 2,
        running: 1,
        attached: true,
        weight: 2.5,
    };
    check_of("1.1", "session_status", &session)
}
