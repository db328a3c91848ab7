//! What a new worker is like.

use clutch_worker_link::{DriverCode, FromWorker, Phase, ToWorker};

use crate::harness::Zygote;

#[test]
fn the_zygote_is_the_environment() {
    let zygote = Zygote::start("numpy,joblib");
    let python = std::env::var("CLUTCH_TEST_PYTHON").unwrap();
    assert_eq!(zygote.hello.executable, python);
    assert_eq!(zygote.hello.implementation, "cpython");
    assert_eq!(zygote.hello.warm_modules, ["numpy", "joblib"]);
    assert!(!zygote.hello.joblib_version.is_empty());
    let joblib = ("joblib".to_owned(), zygote.hello.joblib_version.clone());
    assert!(zygote.hello.packages.contains(&joblib), "{:?}", zygote.hello.packages);
    assert_eq!(zygote.worker().text("__import__('sys').executable"), python);
}

#[test]
fn workers_share_no_random_numbers() {
    let zygote = Zygote::start("numpy,numpy.random,random");
    let draw = "str(__import__('numpy').random.random()) + str(__import__('random').random())";
    let [one, other] = [zygote.worker().text(draw), zygote.worker().text(draw)];
    assert_ne!(one, other);
    assert_ne!(one[..10], other[..10]);
}

#[test]
fn a_worker_has_its_own_session_and_one_thread_and_few_descriptors() {
    let mut worker = Zygote::start("numpy").worker();
    let facts = "repr((__import__('os').getsid(0) == __import__('os').getpid(), \
                 len(__import__('os').listdir('/proc/self/task')), \
                 len(__import__('os').listdir('/proc/self/fd')), \
                 __import__('os').environ['CLUTCH_WORKER']))";
    // 0, 1, 2, the task line, duplicates of 1 and 2, the working directory, and
    // the listing itself.
    assert_eq!(worker.text(facts), "(True, 1, 8, '1')");
}

#[test]
fn inner_pools_keep_to_the_slot() {
    let zygote = Zygote::start("numpy");
    let mut worker = zygote.bare_worker();
    worker.set_up(vec![("OMP_NUM_THREADS".into(), "3".into())], 2, b"");
    let variables = "repr([__import__('os').environ[n] for n in ('OMP_NUM_THREADS', \
                     'OPENBLAS_NUM_THREADS', 'LOKY_MAX_CPU_COUNT', 'ENABLE_IPC')])";
    assert_eq!(worker.text(variables), "['3', '2', '2', '1']");
    let pools = "repr({p['num_threads'] for p in \
                 __import__('threadpoolctl').threadpool_info() if p['user_api'] == 'blas'})";
    assert_eq!(worker.text(pools), "{2}");
}

#[test]
fn the_profile_is_applied() {
    let zygote = Zygote::start("");
    let mut worker = zygote.bare_worker();
    // {'cwd': '/usr', 'sys_path': ['', '/driver'], 'authkey': b'key'}
    let profile = b"(Vcwd\nV/usr\nVsys_path\n(V\nV/driver\nlVauthkey\nC\x03keyd.";
    worker.set_up(Vec::new(), 1, profile);
    let facts = "repr((__import__('os').getcwd(), __import__('sys').path[:2], \
                 len(__import__('sys').path) > 4, \
                 bytes(__import__('multiprocessing').current_process().authkey)))";
    assert_eq!(worker.text(facts), "('/usr', ['', '/driver'], True, b'key')");
}

#[test]
fn an_initializer_that_raises_ends_the_worker_with_its_exception() {
    let zygote = Zygote::start("");
    let mut worker = zygote.bare_worker();
    let profile = b"(Vinitializer\ncoperator\ntruediv\nVinitargs\n(I1\nI0\ntd.";
    worker.send(
        &ToWorker::Setup { variables: Vec::new(), threads: 1, code: DriverCode::default() },
        profile,
    );
    let answer = worker.receive();
    let FromWorker::SetupFailed(failure) = answer.message else { panic!("set up") };
    assert_eq!(failure.phase, Phase::Initializer);
    assert_eq!(failure.exception.type_name, "ZeroDivisionError");
    assert!(!answer.payload.is_empty());
    assert_eq!(worker.end().0, Some(1));
}
