//! The description of the API, made from the endpoints themselves.
//!
//! In: what `#[utoipa::path]` says. Out: an OpenAPI 3.1 document, and the parts that endpoints share in it.
//! Always holds: every operation can answer with a problem, needs a bearer key, and every POST takes an idempotency key:
//! said here once, for all of them.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde_json::{Value as Json, json};
use utoipa::openapi::schema::{AnyOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::problem::{FieldError, ProblemBody};

/// Every answer that is not a success.
#[derive(Debug)]
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        const STATUSES: &[(&str, &str)] = &[
            ("400", "The request cannot be read"),
            ("401", "No admin key, or one that is not known, revoked or expired"),
            ("403", "The key's role or scopes do not allow it"),
            ("404", "There is no such thing in this account"),
            ("409", "It contradicts what is"),
            ("412", "It was changed since the version that If-Match names"),
            ("413", "The body is too large"),
            ("415", "The body is not JSON"),
            ("422", "One or more fields are wrong"),
            ("429", "The key sends too many requests; Retry-After says when to go on"),
            ("503", "The database is away; Retry-After says when to try again"),
        ];
        let one = |description: &str| {
            let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("ProblemBody"))));
            RefOr::T(
                ResponseBuilder::new()
                    .description(description)
                    .content("application/problem+json", content)
                    .build(),
            )
        };
        STATUSES.iter().map(|(status, text)| ((*status).to_owned(), one(text))).collect()
    }
}

/// The schema of a merge patch of `T`: each field may be left out, and is taken away by null unless `T` needs it. Named by an alias in
/// `#[utoipa::path]`, which does not know generics of other crates' making.
#[derive(Debug)]
pub struct PatchOf<T>(PhantomData<T>);

impl<T: ToSchema> PartialSchema for PatchOf<T> {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut object)) = T::schema() else { return T::schema() };
        let needed = std::mem::take(&mut object.required);
        for (name, property) in &mut object.properties {
            if needed.contains(name) {
                continue;
            }
            // Not "one of": many a field may be null by itself.
            let null = ObjectBuilder::new().schema_type(SchemaType::new(Type::Null)).build();
            let either = AnyOfBuilder::new().item(null).item(property.clone()).build();
            *property = RefOr::T(Schema::AnyOf(either));
        }
        RefOr::T(Schema::Object(object))
    }
}

impl<T: ToSchema> ToSchema for PatchOf<T> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("{}Patch", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

/// Completes what the routes say with what holds for all of them.
#[must_use]
pub fn complete(mut document: OpenApi) -> Json {
    document.info = InfoBuilder::new()
        .title("PayFence control plane")
        .version("1")
        .description(Some(
            "Sites, plans, customers, subscriptions and tokens. Lists are newest first; times are RFC 3339 in UTC.",
        ))
        .build();
    let components = document.components.get_or_insert_with(Default::default);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("pfa_…").build();
    components.add_security_scheme("admin_key", SecurityScheme::Http(bearer));
    for (name, schema) in
        [("ProblemBody", ProblemBody::schema()), ("FieldError", FieldError::schema())]
    {
        components.schemas.insert(name.to_owned(), schema);
    }
    let mut json = serde_json::to_value(&document).unwrap_or_default();
    let schemas = json["components"]["schemas"].clone();
    join_parts(&mut json, &schemas);
    json["security"] = json!([{ "admin_key": [] }]);
    let Some(paths) = json["paths"].as_object_mut() else { return json };
    for operations in paths.values_mut().filter_map(Json::as_object_mut) {
        for (method, operation) in operations {
            complete_operation(method, operation);
            loosen_body(method, operation, &schemas);
        }
    }
    json
}

/// Makes one object of each that is described as all of several: a view holds a draft's fields, but a draft by itself
/// allows no others, so nothing could be both.
fn join_parts(schema: &mut Json, schemas: &Json) {
    if let Some(parts) = schema["allOf"].as_array().cloned() {
        let (mut properties, mut required) = (json!({}), Vec::new());
        for part in parts {
            let name = part["$ref"].as_str().and_then(|to| to.rsplit('/').next());
            let part = name.map_or(&part, |name| &schemas[name]);
            for (field, property) in part["properties"].as_object().into_iter().flatten() {
                properties[field] = property.clone();
            }
            required.extend(part["required"].as_array().into_iter().flatten().cloned());
        }
        let description = schema["description"].clone();
        *schema = json!({ "type": "object", "required": required, "properties": properties });
        if !description.is_null() {
            schema["description"] = description;
        }
    }
    match schema {
        Json::Array(items) => items.iter_mut().for_each(|item| join_parts(item, schemas)),
        Json::Object(fields) => fields.values_mut().for_each(|field| join_parts(field, schemas)),
        _ => {}
    }
}

/// A POST that needs no field may come without a body.
fn loosen_body(method: &str, operation: &mut Json, schemas: &Json) {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let name = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next());
    let Some(schema) = name.map(|name| &schemas[name]) else { return };
    let needs_none = schema["required"].as_array().is_none_or(Vec::is_empty);
    if method == "post" && needs_none {
        operation["requestBody"]["required"] = false.into();
    }
}

fn complete_operation(method: &str, operation: &mut Json) {
    let request_id = json!({ "description": "The request's id", "schema": { "type": "string" }, "required": true });
    if let Some(responses) = operation["responses"].as_object_mut() {
        for response in responses.values_mut() {
            response["headers"]["PayFence-Request-Id"] = request_id.clone();
        }
    }
    let header = match method {
        "post" => json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same request with the same key within 24 hours is done once, and answered alike (without a secret)",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" }
        }),
        "patch" | "delete" => json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "The ETag that was read: 412 where it was changed since", "schema": { "type": "string" }
        }),
        _ => return,
    };
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(header),
        None => operation["parameters"] = json!([header]),
    }
}
