//! The OpenAPI document is as it was written down.

use std::path::Path;

use crate::api;

#[test]
fn the_openapi_document_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/openapi.json");
    let now = format!("{:#}\n", api::document());
    if std::env::var_os("PAYFENCE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let then = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        now == then,
        "the API is not as docs/openapi.json says; look at what changed after \
         PAYFENCE_UPDATE_GOLDEN=1 cargo nextest run -p controlplane openapi"
    );
}

#[test]
fn every_operation_is_described() {
    let document = api::document();
    let mut seen = std::collections::BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(seen.insert(name.to_owned()), "{name} stands twice");
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            assert!(
                operation["responses"]["default"].is_null()
                    && operation["responses"]["401"].is_object()
            );
            let has = |header: &str| operation["parameters"].to_string().contains(header);
            assert_eq!(has("Idempotency-Key"), method == "post", "{method} {path}");
            assert_eq!(has("If-Match"), matches!(&**method, "patch" | "delete"), "{method} {path}");
        }
    }
    // Whatever is referred to is there, and nothing is described as two things at once.
    let text = document.to_string();
    assert!(!text.contains("\"allOf\""));
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} is not in the document");
    }
}

/// The walks over all operations go by the document, so nothing may be served that is not in it.
#[test]
fn every_endpoint_is_in_the_document() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/endpoints");
    let (mut described, mut folders) = (0, vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let count = std::fs::read_to_string(&path).unwrap().matches("#[utoipa::path(").count();
            assert!(count <= 1, "{} has {count} endpoints: a file has one", path.display());
            described += count;
        }
    }
    let document = api::document();
    let paths = document["paths"].as_object().unwrap().values();
    let listed: usize = paths.map(|operations| operations.as_object().unwrap().len()).sum();
    assert_eq!(listed, described, "an endpoint is written and not routed, or the other way round");
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/endpoints.rs");
    let list = std::fs::read_to_string(list).unwrap();
    assert!(!list.contains(".route("), "a route without a description: use routes!");
}
