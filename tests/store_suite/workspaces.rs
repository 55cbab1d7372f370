//! Workspaces and tokens.

use baton::domain::*;
use baton::store::*;

use crate::support::*;

fn token(workspace: WorkspaceId, byte: u8) -> NewToken {
    NewToken {
        id: TokenId::mint(),
        workspace,
        hash: [byte; 32],
        prefix: "abcdefgh".into(),
        created_at: tick(),
    }
}

fn read_one(store: &TestStore, id: WorkspaceId) -> Option<Workspace> {
    store.read(move |reader| reader.workspace(id))
}

fn owner(store: &TestStore, byte: u8) -> Option<WorkspaceId> {
    store.read(move |reader| reader.token_owner(&[byte; 32]))
}

pub(crate) fn a_workspace_reads_back(store: &TestStore) {
    let made = Workspace {
        last_heartbeat_at: Some(tick()),
        current_task: Some("t".to_owned()),
        last_outbound_at: Some(tick()),
        ..workspace(Some(WorkspaceId::mint()))
    };
    let id = made.id;
    let create = Write::CreateWorkspace {
        workspace: Box::new(made.clone()),
        token: Some(token(id, 1)),
        events: vec![event(id)],
    };
    assert_eq!(
        store.commit(std::slice::from_ref(&create)).published.len(),
        1
    );
    let again = store.commit(&[create]);
    assert!(
        matches!(again.written[..], [Written::Done]) && again.published.is_empty(),
        "{again:?}"
    );
    assert_eq!(read_one(store, id), Some(made.clone()));
    assert_eq!(owner(store, 1), Some(id));
    let at = tick();
    let patch = WorkspacePatch {
        role: Some(None),
        parent: Some(None),
        place: Some((3.0, 4.0)),
        status: Some(WorkspaceStatus::Degraded),
        heartbeat: Some(Heartbeat {
            at,
            active_tasks: 2,
            current_task: "a\0".to_owned(),
            ..Heartbeat::default()
        }),
        ..WorkspacePatch::default()
    };
    let change = |id, patch: &WorkspacePatch| Write::PatchWorkspace {
        id,
        patch: Box::new(patch.clone()),
        events: vec![event(id)],
        at,
    };
    assert!(matches!(store.write(change(id, &patch)), Written::Done));
    let expected = Workspace {
        role: None,
        parent: None,
        x: 3.0,
        y: 4.0,
        status: WorkspaceStatus::Degraded,
        last_heartbeat_at: Some(at),
        last_error_rate: 0.0,
        last_sample_error: Some(String::new()),
        active_tasks: 2,
        current_task: Some("a\u{fffd}".to_owned()),
        updated_at: at,
        ..made
    };
    assert_eq!(read_one(store, id), Some(expected));
    let nobody = store.commit(&[change(WorkspaceId::mint(), &patch)]);
    assert!(matches!(nobody.written[..], [Written::Missing]) && nobody.published.is_empty());
}

pub(crate) fn a_family_is_found(store: &TestStore) {
    let root = created(store, None);
    let (left, right) = (created(store, Some(root)), created(store, Some(root)));
    let leaf = created(store, Some(left));
    let gone = created(store, Some(left));
    let remove = |id| Write::RemoveWorkspaces {
        ids: vec![id],
        purge: false,
        events: vec![],
        at: tick(),
    };
    store.commit(&[remove(gone)]);
    let ids = |found: Vec<Workspace>| found.into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(
        store.read(move |reader| reader.ancestry(leaf)),
        [leaf, left, root]
    );
    assert_eq!(
        store.read(|reader| reader.ancestry(WorkspaceId::mint())),
        []
    );
    assert_eq!(
        ids(store.read(move |reader| reader.descendants(root))),
        [left, right, leaf]
    );
    assert_eq!(
        ids(store.read(move |reader| reader.peers(left))),
        [right, leaf, root]
    );
    assert_eq!(
        ids(store.read(move |reader| reader.peers(root))),
        [left, right]
    );
    assert_eq!(
        ids(store.read(|reader| reader.workspaces())),
        [root, left, right, leaf]
    );
    assert_eq!(
        read_one(store, gone).unwrap().status,
        WorkspaceStatus::Removed
    );
    // Parents that point at each other end somewhere.
    let patch = WorkspacePatch {
        parent: Some(Some(leaf)),
        ..WorkspacePatch::default()
    };
    store.commit(&[Write::PatchWorkspace {
        id: root,
        patch: Box::new(patch),
        events: vec![],
        at: tick(),
    }]);
    assert_eq!(store.read(move |reader| reader.ancestry(leaf)).len(), 32);
    assert_eq!(store.read(move |reader| reader.descendants(root)).len(), 3);
}

pub(crate) fn tokens_are_counted_and_revoked(store: &TestStore) {
    let id = created(store, None);
    let mint = |token: &NewToken| Write::MintToken {
        token: token.clone(),
        limit: 2,
    };
    let (one, two, three) = (token(id, 1), token(id, 2), token(id, 3));
    let commit = store.commit(&[mint(&one), mint(&two), mint(&three), mint(&two)]);
    assert!(
        matches!(
            commit.written[..],
            [
                Written::Done,
                Written::Done,
                Written::TooMany,
                Written::Done
            ]
        ),
        "{commit:?}"
    );
    let listed = store.read(move |reader| reader.tokens(id, 10, 0));
    assert_eq!(
        listed.iter().map(|view| view.id).collect::<Vec<_>>(),
        [two.id, one.id]
    );
    assert_eq!(
        (listed[0].prefix.as_str(), listed[0].last_used_at),
        ("abcdefgh", None)
    );
    let at = tick();
    let revoke = |token: TokenId, at| Write::RevokeToken {
        workspace: id,
        token,
        at,
    };
    assert!(matches!(store.write(revoke(one.id, at)), Written::Done));
    assert!(
        matches!(store.write(revoke(one.id, at)), Written::Done),
        "the same write again"
    );
    assert!(matches!(
        store.write(revoke(one.id, tick())),
        Written::Missing
    ));
    assert!(matches!(
        store.write(revoke(TokenId::mint(), at)),
        Written::Missing
    ));
    assert_eq!((owner(store, 1), owner(store, 2)), (None, Some(id)));
    assert!(matches!(store.write(mint(&three)), Written::Done));
    assert!(matches!(
        store.write(mint(&token(WorkspaceId::mint(), 9))),
        Written::Missing
    ));
}

pub(crate) fn uses_of_tokens_are_noted(store: &TestStore) {
    let id = created(store, None);
    let tokens = [token(id, 1), token(id, 2), token(id, 3)];
    let mints = tokens
        .clone()
        .map(|token| Write::MintToken { token, limit: 9 });
    store.commit(&mints);
    let uses = |bytes: &[u8], at| {
        let used = |byte: &u8| TokenUse {
            hash: [*byte; 32],
            at,
        };
        Write::TokensUsed(bytes.iter().map(used).collect())
    };
    let noted = || {
        let listed = store.read(move |reader| reader.tokens(id, 10, 0));
        let of = |token: &NewToken| listed.iter().find(|view| view.id == token.id);
        tokens
            .each_ref()
            .map(|token| of(token).unwrap().last_used_at)
    };
    let [early, late] = [tick(), tick()];
    store.write(uses(&[1, 2, 99], late));
    assert_eq!(noted(), [Some(late), Some(late), None]);
    // Another node was told earlier, and writes later.
    store.write(uses(&[1, 3], early));
    assert_eq!(noted(), [Some(late), Some(late), Some(early)]);
    // More than one statement can carry, most of them unknown by now.
    let many: Vec<TokenUse> = (0..2_500_u32)
        .map(|number| {
            let mut hash = [3; 32];
            hash[..4].copy_from_slice(&number.to_be_bytes());
            TokenUse { hash, at: late }
        })
        .chain([TokenUse {
            hash: [3; 32],
            at: late,
        }])
        .collect();
    store.write(Write::TokensUsed(many));
    assert_eq!(noted(), [Some(late); 3]);
    store.write(Write::TokensUsed(Vec::new()));
}

pub(crate) fn a_removed_workspace_has_no_tokens(store: &TestStore) {
    let id = created(store, None);
    store.commit(&[Write::MintToken {
        token: token(id, 1),
        limit: 9,
    }]);
    assert_eq!(owner(store, 1), Some(id));
    let events = vec![event(id)];
    let removed = store.commit(&[Write::RemoveWorkspaces {
        ids: vec![id],
        purge: false,
        events,
        at: tick(),
    }]);
    assert!(matches!(removed.written[..], [Written::Done]) && removed.published.len() == 1);
    assert_eq!(owner(store, 1), None);
    store.sql("UPDATE workspace_auth_tokens SET revoked_at = NULL");
    assert_eq!(owner(store, 1), None, "even a token that was not revoked");
    let patch = Box::new(WorkspacePatch {
        tier: Some(1),
        ..WorkspacePatch::default()
    });
    let patched = store.write(Write::PatchWorkspace {
        id,
        patch,
        events: vec![],
        at: tick(),
    });
    assert!(matches!(patched, Written::Missing));
    let late = store.write(Write::MintToken {
        token: token(id, 2),
        limit: 9,
    });
    assert!(matches!(late, Written::Missing));
    assert!(matches!(store.write(register(id, 5)), Written::Missing));
}

pub(crate) fn a_purge_keeps_delegations(store: &TestStore) {
    let terms = begun(store);
    let id = terms.key.caller;
    store.commit(&[Write::MintToken {
        token: token(id, 1),
        limit: 9,
    }]);
    store.commit(&[Write::Acknowledge {
        workspace: id,
        upto: Position(9),
    }]);
    store.commit(&[Write::RemoveWorkspaces {
        ids: vec![id],
        purge: true,
        events: vec![],
        at: tick(),
    }]);
    assert_eq!(read_one(store, id), None);
    for table in [
        "activity_logs",
        "structure_events",
        "workspace_auth_tokens",
        "inbox_delivery_state",
    ] {
        assert_eq!(
            store.number(&format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }
    let ended = store.write(advance_write(&terms, 2, &completed("still")));
    assert!(
        matches!(ended, Written::Advanced),
        "an ending is stored whatever became of the caller"
    );
    assert_eq!(loaded(store, &terms.key).life.status(), Status::Completed);
}

/// The delegations of before are not compared with the feed of after.
pub(crate) fn a_purged_caller_may_register_again(store: &TestStore) {
    let terms = begun(store);
    let id = terms.key.caller;
    store.write(advance_write(&terms, 2, &completed("done")));
    store.commit(&[Write::RemoveWorkspaces {
        ids: vec![id],
        purge: true,
        events: vec![],
        at: tick(),
    }]);
    assert!(matches!(
        store.write(register(id, 1)),
        Written::Registered { token_stored: true }
    ));
    let audited = store
        .read(|reader| reader.audit(None, 10, AuditLimits::default()))
        .rows;
    assert!(audited.is_empty(), "{audited:?}");
}

fn register(id: WorkspaceId, byte: u8) -> Write {
    Write::Register(Box::new(Registration {
        id,
        url: Some("http://b/".to_owned()),
        agent_card: Json("{}".into()),
        credentials: None,
        delivery_mode: DeliveryMode::Poll,
        token: token(id, byte),
        events: vec![event(id)],
        at: tick(),
    }))
}

pub(crate) fn a_registration_makes_or_updates(store: &TestStore) {
    let stranger = WorkspaceId::mint();
    let first = register(stranger, 1);
    for _ in 0..2 {
        let written = store.write(first.clone());
        assert!(
            matches!(written, Written::Registered { token_stored: true }),
            "{written:?}"
        );
    }
    let made = read_one(store, stranger).unwrap();
    assert_eq!(
        (made.name, made.status),
        (stranger.to_string(), WorkspaceStatus::Online)
    );
    let known = created(store, None);
    let written = store
        .commit(&[register(known, 2), register(known, 3)])
        .written;
    assert!(
        matches!(
            written[..],
            [
                Written::Registered { token_stored: true },
                Written::Registered {
                    token_stored: false
                }
            ]
        ),
        "{written:?}"
    );
    let updated = read_one(store, known).unwrap();
    assert_eq!(
        (updated.name.as_str(), updated.delivery_mode),
        ("n", DeliveryMode::Poll)
    );
    assert_eq!(updated.url.as_deref(), Some("http://b/"));
}

pub(crate) fn credentials_are_kept_until_they_are_changed(store: &TestStore) {
    let sealed = |text: &str| Some(SealedCredential(text.into()));
    let id = WorkspaceId::mint();
    let credentials = || read_one(store, id).unwrap().credentials;
    let registered = |credentials| {
        let Write::Register(mut registration) = register(id, 1) else {
            panic!("a registration");
        };
        registration.credentials = credentials;
        store.write(Write::Register(registration))
    };
    let moved = |url: Option<&str>| {
        let Write::Register(mut registration) = register(id, 1) else {
            panic!("a registration");
        };
        registration.url = url.map(ToOwned::to_owned);
        store.write(Write::Register(registration))
    };
    registered(Some(sealed("bearer one")));
    assert_eq!(credentials(), sealed("bearer one"));
    registered(None);
    assert_eq!(credentials(), sealed("bearer one"));
    moved(Some("http://b:80/other"));
    assert_eq!(credentials(), sealed("bearer one"), "the same origin");
    for elsewhere in [
        Some("https://b/"),
        Some("http://b:81/"),
        Some("http://b.evil/"),
        Some("http://b@evil/"),
        None,
    ] {
        moved(Some("http://b/"));
        registered(Some(sealed("bearer one")));
        moved(elsewhere);
        assert_eq!(credentials(), None, "{elsewhere:?}");
    }
    registered(Some(sealed("basic two")));
    assert_eq!(credentials(), sealed("basic two"));
    for (change, expected) in [
        (None, sealed("basic two")),
        (Some(sealed("api_key three")), sealed("api_key three")),
        (Some(None), None),
    ] {
        let patch = WorkspacePatch {
            credentials: change,
            ..WorkspacePatch::default()
        };
        store.write(Write::PatchWorkspace {
            id,
            patch: Box::new(patch),
            events: vec![],
            at: tick(),
        });
        assert_eq!(credentials(), expected);
    }
    registered(Some(sealed("bearer four")));
    store.write(Write::RemoveWorkspaces {
        ids: vec![id],
        purge: false,
        events: vec![],
        at: tick(),
    });
    assert_eq!(credentials(), None, "it is removed");
}
