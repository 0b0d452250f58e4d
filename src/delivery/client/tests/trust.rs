//! Which certificates are accepted, and what is said of the others.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A server with a certificate for `name` that this authority has signed.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        server(certificate.der().clone(), &key)
    }
}

fn server(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

async fn deliver(roots: RootCertStore, server: ServerConfig) -> (DeliveryResult, usize) {
    let receiver = Receiver::start_tls(server, |_, _| reply(200, "", b"")).await;
    let names = NameServer::start(|_, _| has(&["127.0.0.1"], 60)).await;
    let settings = settings();
    let world = World {
        clock: Clock::system(),
        hosts: HostsFile::new("/nonexistent/hosts"),
        name_servers: Box::new(SystemNameServers::at(names.address, settings.dns_timeout)),
        authorities: Authorities::These(roots),
    };
    let delivery = HttpDelivery::within(settings, world).unwrap();
    let result = delivery.deliver(request(&named(&receiver, "shop.internal"))).await;
    (result, receiver.received().len())
}

fn is_tls(result: &(DeliveryResult, usize), words: &str) -> bool {
    matches!(result, (Err(DeliveryError::Tls(said)), 0) if said.contains(words))
}

#[tokio::test]
async fn a_good_certificate_is_accepted() {
    let authority = Authority::new();
    let (result, received) = deliver(authority.roots(), authority.server("shop.internal", |_| {})).await;
    assert_eq!((result.unwrap().status, received), (200, 1));
}

#[tokio::test]
async fn a_wrong_certificate_is_said_in_words_and_nothing_is_sent() {
    let authority = Authority::new();
    let expired = authority.server("shop.internal", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    });
    let early = authority.server("shop.internal", |params| params.not_before = date_time_ymd(4000, 1, 1));
    let other_name = authority.server("other.internal", |_| {});
    for (server, words) in [(expired, "has expired"), (early, "not valid yet"), (other_name, "for another name")] {
        let result = deliver(authority.roots(), server).await;
        assert!(is_tls(&result, words), "{words}: {result:?}");
    }
    let stranger = Authority::new().server("shop.internal", |_| {});
    let result = deliver(authority.roots(), stranger).await;
    assert!(is_tls(&result, "not signed by an authority"), "{result:?}");
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![String::from("shop.internal")]).unwrap().self_signed(&key).unwrap();
    let result = deliver(authority.roots(), server(own.der().clone(), &key)).await;
    assert!(is_tls(&result, "not signed by an authority"), "{result:?}");
    let nobody = deliver(RootCertStore::empty(), authority.server("shop.internal", |_| {})).await;
    assert!(is_tls(&nobody, "not signed by an authority"), "{nobody:?}");
}

#[tokio::test]
async fn what_does_not_speak_tls_is_said_in_words_and_is_sent_nothing() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let (mut closing, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut closing).await.unwrap();
        (stream, closing)
    });
    let spoken = delivery().deliver(request(&url)).await;
    assert_eq!(spoken, Err(DeliveryError::Tls(String::from("the receiver does not speak TLS"))));
    let closed = delivery().deliver(request(&url)).await;
    assert_eq!(closed, Err(DeliveryError::Tls(String::from("the connection broke during the handshake"))));
    drop(answering.await.unwrap());
}
