//! Catching up with the store when another node moved the delegation on.

use std::sync::Arc;

use actix::prelude::*;

use super::DelegationActor;
use crate::delegation::messages::Reload;
use crate::store::Loaded;

impl DelegationActor {
    /// Goes on from what is stored. The place with the target is kept, so that nobody else takes it meanwhile.
    pub(super) fn reload(&mut self, context: &mut Context<Self>) {
        let (runtime, key) = (Arc::clone(&self.runtime), self.terms.key.clone());
        let load = async move { runtime.read(move |reader| reader.load(&key)).await };
        let catch_up = load
            .into_actor(self)
            .map(|loaded, actor, context| match loaded {
                Some(loaded) if loaded.revision > actor.revision => actor.adopt(loaded, context),
                Some(_) => {}
                None => context.stop(),
            });
        context.wait(catch_up);
    }

    fn adopt(&mut self, loaded: Loaded, context: &mut Context<Self>) {
        self.life = loaded.life;
        self.revision = loaded.revision;
        self.incarnation = loaded.incarnation.next();
        self.counted.move_to(self.life.status());
        self.way = None;
        self.take_place(false, Some(context.address()));
        self.proceed(context);
    }
}

impl Handler<Reload> for DelegationActor {
    type Result = ();

    /// Not while a change is being committed: what follows from it would not be done, and nobody would know.
    fn handle(&mut self, _: Reload, context: &mut Self::Context) {
        match &mut self.committing {
            Some(committing) => committing.moved = true,
            None => self.reload(context),
        }
    }
}
