use clutch_access::Bearer;
use tonic::transport::Endpoint;

use super::*;

/// A channel that nobody answers.
fn nowhere() -> Channel {
    let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    Channel::new(channel, Bearer::default())
}

/// A way to nowhere that counts who takes it.
#[derive(Debug)]
struct Nowhere(Arc<Mutex<Vec<String>>>);

impl Roads for Nowhere {
    fn connect(&self, address: &str) -> Connecting {
        self.0.lock().unwrap().push(address.to_owned());
        Box::pin(async { Ok(nowhere()) })
    }
}

fn pool() -> (Arc<Pool>, Channel) {
    (Arc::new(Pool::new()), nowhere())
}

#[tokio::test]
async fn a_channel_is_shared_and_closed_when_nobody_has_used_it_for_a_while() {
    let (_, channel) = pool();
    let pool = Arc::new(Pool { channels: Mutex::default(), idle: Duration::from_millis(1) });
    let turn = || pool.channels().get("a").map(|known| known.turn);
    assert!(pool.borrow("a").is_none());
    let first = pool.lend("a".to_owned(), channel).unwrap();
    let second = pool.borrow("a").unwrap();
    drop(first);
    pool.close("a", turn().unwrap());
    assert!(turn().is_some(), "somebody uses it");
    drop(second);
    while turn().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_channel_that_was_used_meanwhile_is_kept() {
    let (pool, channel) = pool();
    drop(pool.lend("a".to_owned(), channel).unwrap());
    let before = pool.channels()["a"].turn;
    drop(pool.borrow("a").unwrap());
    pool.close("a", before);
    assert!(pool.borrow("a").is_some());
}

#[tokio::test]
async fn only_so_many_agents_are_talked_to() {
    let (pool, channel) = pool();
    let lend = |number: usize| pool.lend(number.to_string(), channel.clone());
    let held: Vec<_> = (0..MAX_CHANNELS).map(|number| lend(number).unwrap()).collect();
    assert!(lend(MAX_CHANNELS).is_err());
    assert!(lend(0).is_ok(), "it is known");
    drop(held);
}

#[tokio::test]
async fn what_is_no_address_here_is_refused_and_connections_are_made_once() {
    let roads = ClusterRoads { access: None, keepalive: Keepalive::default() };
    for no_address in ["", "localhost:80", "x\0:1"] {
        let refused = roads.connect(no_address).await.unwrap_err();
        assert!(refused.to_string().contains(no_address), "{refused}");
    }
    let nobody = roads.connect("unix-abstract:clutch-nobody-listens-here").await.unwrap_err();
    assert!(nobody.to_string().contains("cannot be reached"), "{nobody}");
    let taken = Arc::default();
    let peers = GrpcPeers::new(Box::new(Nowhere(Arc::clone(&taken))));
    let wanted = Wanted { digest: [7; 32], bytes: 1, offset: 0 };
    for _ in 0..2 {
        assert!(peers.ask("agent:1".to_owned(), wanted).await.is_err());
    }
    assert_eq!(*taken.lock().unwrap(), ["agent:1"]);
}

#[tokio::test]
async fn an_agent_for_others_connects_to_no_socket_of_its_machine() {
    let token = clutch_access::Token::random().unwrap();
    let file = clutch_access::AccessFile::of_token(token);
    let access = Access::new(&file, clutch_access::Role::Agent).unwrap();
    let roads = ClusterRoads { access: Some(access), keepalive: Keepalive::default() };
    let refused = roads.connect("unix:/run/clutch.sock").await.unwrap_err();
    assert!(refused.to_string().contains("`unix:/run/clutch.sock`"), "{refused}");
}
