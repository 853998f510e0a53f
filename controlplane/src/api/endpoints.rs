//! The endpoints, one a file.
//!
//! In: nothing. Out: the routes with their descriptions.
//! Always holds: a route that is not listed here does not exist, and one that is listed is described and walked by the
//! tests of tenancy.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub mod sites;

use super::App;

/// All of them, relative to `/v1`.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sites::create::create_site, sites::list::list_sites))
        .routes(routes!(
            sites::get::get_site,
            sites::update::update_site,
            sites::archive::archive_site
        ))
}
