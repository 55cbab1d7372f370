//! Calls over TLS.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig as TlsClient, RootCertStore, ServerConfig as TlsServer};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::*;
use crate::dispatch::client::{dial, origin::Origin};

/// An agent that answers over TLS on connections that it keeps, and a client that trusts it.
async fn secure() -> (String, Arc<AtomicUsize>, A2aClient) {
    let client = A2aClient::new(config());
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = TlsServer::builder().with_no_client_auth();
    let server = server.with_single_cert(vec![cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(server.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let connections = Arc::clone(&connections);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(acceptor.clone(), stream));
            }
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let trusted = TlsClient::builder().with_root_certificates(roots);
    let tls = Some(dial::tls(trusted.with_no_client_auth()));
    let url = format!("https://localhost:{port}/a2a");
    (url, connections, A2aClient { tls, ..client })
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream) {
    // A client that does not trust it goes away.
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut bytes = Vec::new();
    while stream
        .read_buf(&mut bytes)
        .await
        .is_ok_and(|count| count > 0)
    {
        let text = String::from_utf8_lossy(&bytes);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
        let body = body.and_then(|body| serde_json::from_str::<serde_json::Value>(body).ok());
        let Some(body) = body else { continue };
        let text = "x".repeat(100_000);
        let body = answer(&body["id"], &text);
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        bytes.clear();
    }
}

#[tokio::test]
async fn an_answer_comes_over_tls_and_the_connection_is_used_again() {
    let (url, connections, client) = secure().await;
    client
        .pool
        .trust(Origin::of(&Url::parse(&url).unwrap()).unwrap());
    for _ in 0..3 {
        let message = Message::Task("y".repeat(100_000).into());
        let called = client
            .sent(Call {
                message,
                ..call(&url)
            })
            .await;
        assert!(
            matches!(&called.outcome, Outcome::Answered { text } if text.len() == 100_000),
            "{called:?}"
        );
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    // The certificate names both; they are two origins all the same.
    let by_address = url.replace("localhost", "127.0.0.1");
    let called = client.sent(call(&by_address)).await;
    assert!(
        matches!(called.outcome, Outcome::Answered { .. }),
        "{called:?}"
    );
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_not_trusted_gets_nothing() {
    let (url, _, _) = secure().await;
    let (elsewhere, _, trusting_another) = secure().await;
    let outcome = trusting_another.sent(call(&url)).await.outcome;
    assert!(
        matches!(&outcome, Outcome::NotDelivered { detail } if detail.contains("certificate")),
        "{outcome:?}"
    );
    let nobody = A2aClient {
        tls: None,
        ..trusting_another
    };
    let outcome = nobody.sent(call(&elsewhere)).await.outcome;
    assert!(
        matches!(&outcome, Outcome::NotDelivered { detail } if detail.contains("authority")),
        "{outcome:?}"
    );
}
