//! The tables, once for both databases. The migrations make them; the suite holds the twins together and uses every
//! column on both.

macro_rules! tables {
    ($($name:ident ($($key:ident),+) { $($column:ident -> $type:ty),+ $(,)? })+) => {
        $(diesel::table! {
            use diesel::sql_types::*;
            use crate::store::types::*;

            $name ($($key),+) { $($column -> $type),+ }
        })+
        diesel::allow_tables_to_appear_in_same_query!($($name),+);
    };
}

tables! {
    workspaces (id) {
        id -> DbUuid,
        name -> Text,
        role -> Nullable<Text>,
        tier -> Integer,
        status -> Text,
        agent_card -> Nullable<DbJson>,
        url -> Nullable<Text>,
        parent_id -> Nullable<DbUuid>,
        runtime -> Text,
        delivery_mode -> Text,
        max_concurrent_tasks -> Integer,
        can_delegate -> Bool,
        last_heartbeat_at -> Nullable<DbTs>,
        last_error_rate -> Double,
        last_sample_error -> Nullable<Text>,
        active_tasks -> Integer,
        uptime_seconds -> Integer,
        current_task -> Nullable<Text>,
        monthly_spend -> BigInt,
        x -> Double,
        y -> Double,
        collapsed -> Bool,
        last_outbound_at -> Nullable<DbTs>,
        created_at -> DbTs,
        updated_at -> DbTs,
        credentials -> Nullable<Text>,
    }
    workspace_auth_tokens (id) {
        id -> DbUuid,
        workspace_id -> DbUuid,
        token_hash -> Binary,
        prefix -> Text,
        created_at -> DbTs,
        last_used_at -> Nullable<DbTs>,
        revoked_at -> Nullable<DbTs>,
    }
    activity_logs (seq) {
        id -> Nullable<DbUuid>,
        seq -> BigInt,
        workspace_id -> DbUuid,
        activity_type -> Text,
        source_id -> Nullable<DbUuid>,
        target_id -> Nullable<DbUuid>,
        method -> Nullable<Text>,
        summary -> Nullable<Text>,
        request_body -> Nullable<DbJson>,
        response_body -> Nullable<DbJson>,
        tool_trace -> Nullable<DbJson>,
        duration_ms -> Nullable<Integer>,
        status -> Text,
        error_detail -> Nullable<Text>,
        delegation_id -> Nullable<Text>,
        created_at -> DbTs,
        delegation_number -> Nullable<BigInt>,
    }
    structure_events (seq) {
        seq -> BigInt,
        event_type -> Text,
        workspace_id -> Nullable<DbUuid>,
        payload -> Nullable<DbJson>,
        created_at -> DbTs,
        delegation_id -> Nullable<Text>,
    }
    delegations (caller_id, delegation_id) {
        caller_id -> DbUuid,
        delegation_id -> Text,
        callee_id -> Nullable<DbUuid>,
        task -> Text,
        task_preview -> Text,
        origin -> Text,
        redelivery -> Text,
        status -> Text,
        attempt -> Integer,
        waiting_for -> Nullable<Text>,
        next_attempt_at -> Nullable<DbTs>,
        task_id -> Nullable<Text>,
        phase -> Nullable<Text>,
        last_heartbeat -> Nullable<DbTs>,
        question -> Nullable<Text>,
        deadline -> DbTs,
        result_text -> Nullable<Text>,
        result_raw -> Nullable<Binary>,
        error_class -> Nullable<Text>,
        error_detail -> Nullable<Text>,
        late_result -> Nullable<Text>,
        late_result_at -> Nullable<DbTs>,
        retry_of -> Nullable<Text>,
        idempotency_key -> Nullable<Text>,
        fingerprint -> Nullable<Binary>,
        traceparent -> Nullable<Text>,
        history -> Text,
        reply -> Text,
        revision -> BigInt,
        incarnation -> Integer,
        lease_owner -> Nullable<DbUuid>,
        created_at -> DbTs,
        updated_at -> DbTs,
        ended_at -> Nullable<DbTs>,
        priority -> Integer,
        failures -> Nullable<Integer>,
        failing_since -> Nullable<DbTs>,
        progress_message -> Nullable<Text>,
        progress_percent -> Nullable<Integer>,
        input -> Nullable<Text>,
        number -> BigInt,
        standing -> Text,
        given_back_key -> Nullable<Text>,
        message -> Nullable<Text>,
        context_id -> Nullable<Text>,
        input_message -> Nullable<Text>,
        parent_caller_id -> Nullable<DbUuid>,
        parent_delegation_id -> Nullable<Text>,
    }
    delegations_live (number) {
        number -> BigInt,
        lease_owner -> DbUuid,
        caller_id -> DbUuid,
        callee_id -> Nullable<DbUuid>,
    }
    delegations_ended (standing, number) {
        number -> BigInt,
        standing -> Text,
        caller_id -> DbUuid,
        callee_id -> Nullable<DbUuid>,
    }
    delegations_owed (number) {
        number -> BigInt,
    }
    push_receivers (id) {
        id -> DbUuid,
        workspace_id -> DbUuid,
        delegation_id -> Nullable<Text>,
        config_id -> Text,
        url -> Text,
        scheme -> Nullable<Text>,
        old_form -> Bool,
        sealed -> Nullable<Binary>,
        state -> Text,
        position -> BigInt,
        failures -> Integer,
        failing_since -> Nullable<DbTs>,
        next_attempt_at -> Nullable<DbTs>,
        last_error -> Nullable<Text>,
        lease_owner -> DbUuid,
        created_at -> DbTs,
    }
    inbox_delivery_state (workspace_id) {
        workspace_id -> DbUuid,
        last_acked_seq -> BigInt,
        updated_at -> DbTs,
    }
    nodes (id) {
        id -> DbUuid,
        holder -> DbUuid,
        expires_at -> DbTs,
        started_at -> DbTs,
    }
    feed_position (id) {
        id -> Integer,
        last -> BigInt,
        completed -> BigInt,
        failed -> BigInt,
        cancelled -> BigInt,
        nodes -> Integer,
    }
}
